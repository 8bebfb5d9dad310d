"""What sync and async clients share of sending: where to, with what, how often, and what an answer means."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple, TypeVar

import httpx

from retrieval.errors import BadConfig
from serving import __version__
from serving.client.calls import Call
from serving.client.errors import ServerError, error_of

T = TypeVar("T")
FULL = (429, 503)  # with Retry-After: nothing was done
FIRST_WAIT = 0.1  # seconds before what did not arrive is sent again; twice as long each time
CONNECT_WITHIN = 5.0  # seconds


class Sending(NamedTuple):
    """How calls are sent: `retries` times again at most, waiting `longest_wait` seconds at most each time."""

    retries: int
    longest_wait: float

    def wait(self, call: Call[Any], attempt: int, came: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds after which to send a call again, whose attempt (from 0) came to this; None: it is not to be."""
        if attempt >= self.retries:
            return None
        if isinstance(came, httpx.TransportError):
            unsent = isinstance(came, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            too_long = isinstance(came, httpx.TimeoutException)  # the server may be at it still
            if not unsent and (too_long or not call.repeatable):
                return None
            return min(self.longest_wait, FIRST_WAIT * 2.0**attempt * random.uniform(0.5, 1.0))
        if came.status_code not in FULL or (seconds := _seconds(came.headers.get("retry-after"))) is None:
            return None
        return min(self.longest_wait, seconds)

    def outcome(self, call: Call[T], came: httpx.Response | httpx.TransportError) -> T:
        """What a call returns. Raises the engine's errors, and ServerError."""
        if isinstance(came, httpx.TransportError):
            why = str(came) or type(came).__name__
            raise ServerError(None, f"the server did not answer: {why}; see whether it runs, and its address") from came
        if came.status_code != 200:
            raise error_of(came.status_code, came.content)
        try:
            return call.read(json.loads(came.content))
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(
                200, f"the answer cannot be read: {error!r}; is a shortlist {__version__} server at this address?"
            ) from error


def options_of(base_url: str, key: str | None, timeout: float, retries: int, longest_wait: float) -> dict[str, Any]:
    """The arguments of httpx's clients. Raises BadConfig for values that are out of range."""
    if timeout <= 0 or retries < 0 or longest_wait < 0:
        raise BadConfig("timeout has to be above 0, retries and longest_wait 0 or more")
    headers = {"Content-Type": "application/json", "User-Agent": f"shortlist/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        address = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise BadConfig(f"{base_url!r} is no address: {error}; give one such as http://127.0.0.1:8000") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise BadConfig(f"{base_url!r} is no address; give one such as http://127.0.0.1:8000")
    return {
        "base_url": address,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_WITHIN)),
    }


def _seconds(told: str | None) -> float | None:
    """The seconds of a Retry-After; None where it names none."""
    return float(told) if told is not None and told.isascii() and told.isdigit() else None
