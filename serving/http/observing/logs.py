"""Structured logs: one JSON object a line for each request, and for whatever else is logged.

Nothing personal is in them: no query, user, history, key or address, and of an error its kind and where it was raised,
but not its text, which may quote a request.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from retrieval.errors import ShortlistError
from serving.http.observing.seen import Seen

DEEPEST = 20  # frames of an error


class RequestLog:
    """An observer that writes a line for each request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def ended(self, seen: Seen) -> None:
        """See `serving.http.observing.seen.Observer`."""
        told = {
            "time": _time(seen.ended),
            "request_id": seen.request_id,
            "method": seen.method,
            "route": seen.route,
            "status": seen.status,
            "ms": round(seen.seconds * 1_000, 3),
            "release": seen.release,
            "degraded": seen.degraded,
            "items": seen.items,
        }
        self._stream.write(json.dumps(told) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """See `serving.http.observing.seen.Observer`."""


class JsonLines(logging.Formatter):
    """A record of `logging` as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        told: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            told |= _of_error(record.exc_info[1])
        return json.dumps(told)


@contextmanager
def structured(stream: TextIO) -> Iterator[None]:
    """While it lasts, what is logged from warnings on goes to a stream as JSON."""
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _message(record: logging.LogRecord) -> str:
    """The message, with the kinds of errors in place of their texts; those that this package writes are kept."""
    if not isinstance(record.args, tuple) or not record.args:
        return record.getMessage()
    foreign = (isinstance(one, BaseException) and not isinstance(one, ShortlistError) for one in record.args)
    args = (type(one).__name__ if hide else one for one, hide in zip(record.args, foreign, strict=True))
    return str(record.msg) % tuple(args)


def _of_error(error: BaseException) -> dict[str, Any]:
    """The kind of an error, and of what caused it, and where each was raised."""
    told: dict[str, Any] = {"error": type(error).__name__, "at": _places(error)}
    cause = error.__cause__ or error.__context__
    return told if cause is None else {**told, "cause": type(cause).__name__, "cause_at": _places(cause)}


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-DEEPEST:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
