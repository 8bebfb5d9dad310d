"""Problem details of a server as the engine's own errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from retrieval.errors import (
    BadBundle,
    BadConfig,
    BadData,
    BadRequest,
    CorruptBundle,
    GateRefused,
    MissingDependency,
    ShortlistError,
    StaleArtefact,
)

KINDS: Mapping[str, type[ShortlistError]] = {
    kind.__name__: kind
    for kind in (
        BadBundle,
        BadConfig,
        BadData,
        BadRequest,
        CorruptBundle,
        GateRefused,
        MissingDependency,
        StaleArtefact,
    )
}


class ServerError(ShortlistError):
    """A server did not answer, for a reason that an engine does not have: it cannot be reached, it is full, the API key
    has not the scope, what is asked for is not there.

    `status` is that of HTTP, None where there was no answer; `detail` says what to do; the server's log has
    `request_id`.
    """

    def __init__(self, status: int | None, detail: str, request_id: str = "") -> None:
        told = detail if status is None else f"{status}: {detail}"
        super().__init__(f"{told} (request {request_id})" if request_id else told)
        self.status, self.detail, self.request_id = status, detail, request_id


def error_of(status: int, body: bytes) -> ShortlistError:
    """What to raise for an answer that is none: the error that the engine raised, or ServerError."""
    told = _problem(body)
    detail = str(told.get("detail") or _phrase(status))
    request_id = str(told.get("request_id", ""))
    kind = KINDS.get(str(told.get("error")))
    if kind is None and status == HTTPStatus.BAD_REQUEST:
        kind = BadRequest
    if kind is None:
        return ServerError(status, detail, request_id)
    error = kind(detail)
    error.add_note(f"request {request_id}")
    return error


def _problem(body: bytes) -> dict[str, Any]:
    """The problem details of a body; empty where a proxy answered with something else."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "not a status of HTTP; is a shortlist server at this address?"
