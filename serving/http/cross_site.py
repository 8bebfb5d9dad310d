"""Refuses what a page of another site makes a browser send: cross-site requests, and names that were bound anew (DNS
rebinding)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from serving.http.options import is_loopback
from serving.http.problems import Problem

SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
OTHER_SITES = (b"cross-site", b"same-site")
JSON = "application/json"

Headers = Mapping[bytes, bytes]


def refuse_other_sites(method: str, headers: Headers) -> None:
    """Raises Problem 403 for a request that changes something and that a page of another site sent, and 415 for a body
    that is not JSON, as forms of any site can send it. Programs other than browsers send neither `Origin` nor
    `Sec-Fetch-Site`."""
    if method in SAFE:
        return
    site, origin = headers.get(b"sec-fetch-site", b""), headers.get(b"origin", b"")
    if site in OTHER_SITES or (not site and origin and _authority(origin) != headers.get(b"host", b"").lower()):
        raise Problem(
            HTTPStatus.FORBIDDEN, "a page of another site sent this; call the server from your own server, not a page"
        )
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    if (kind or has_body) and kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send JSON, with the header Content-Type: {JSON}")


def refuse_other_hosts(headers: Headers) -> None:
    """Raises Problem 421 for a request that was sent to another name than those of this machine. Such a name belongs to
    a page that made it point here, or to a proxy that lets others in."""
    if b"host" not in headers:  # no browser leaves it out
        return
    host = headers[b"host"].decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        raise Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            "without API keys this server answers to localhost and 127.0.0.1 alone; make one with shortlist keys add, "
            "or serve with --insecure",
        )


def _authority(origin: bytes) -> bytes:
    return origin.partition(b"://")[2].lower()
