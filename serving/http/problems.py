"""Errors as RFC 9457 problem details: what is wrong, and what to do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from retrieval.errors import BadBundle, BadConfig, BadData, BadRequest, GateRefused, MissingDependency, ShortlistError

MEDIA_TYPE = "application/problem+json"
STATUS_OF: Mapping[type[ShortlistError], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    BadData: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadConfig: HTTPStatus.UNPROCESSABLE_ENTITY,
    GateRefused: HTTPStatus.CONFLICT,
    BadBundle: HTTPStatus.SERVICE_UNAVAILABLE,
    MissingDependency: HTTPStatus.NOT_IMPLEMENTED,
}
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
LONGEST_DETAIL = 1_000  # characters
RETRY_AFTER = "1"  # seconds until what failed for a reason that passes may be tried again
ABSOLUTE_PATH = re.compile(r"(?<![\w:/.~-])/[^\s:;,'\"()]+")

log = logging.getLogger(__name__)


class Problem(Exception):
    """What ends a request with an error: a status, what is wrong and what to do, headers, and the name of the error
    of the engine that it is."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, error: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.error = status, detail, dict(headers or {}), error


FAILED = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log has the reason by this request_id")


class ProblemBody(BaseModel):
    """An error, see RFC 9457."""

    type: str = Field("about:blank", description="The kind of problem; `about:blank` where the status says it all.")
    title: str = Field(description="What the status means.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request, and what to do.")
    request_id: str = Field(description="The request's id, as in the header `X-Request-ID` and in the server's log.")
    error: str | None = Field(None, description="The error of the Python API that it is, such as `BadRequest`.")


def problem_response(problem: Problem, request_id: str) -> Response:
    """A problem as a response."""
    told = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail[:LONGEST_DETAIL],
        "request_id": request_id,
    }
    if problem.error is not None:
        told["error"] = problem.error
    return Response(json.dumps(told).encode(), problem.status.value, problem.headers, MEDIA_TYPE)


def problem_of(error: ShortlistError) -> Problem:
    """The problem that an error of the engine is."""
    status = next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), None)
    headers = {"Retry-After": RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    detail = str(error) if isinstance(error, BadRequest | BadData) else without_folders(str(error))
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == ShortlistError.__module__)
    return Problem(status or HTTPStatus.INTERNAL_SERVER_ERROR, detail, headers=headers, error=name)


def without_folders(text: str) -> str:
    """A text for callers, who are not to know where on the machine files lie: of absolute paths the last two parts.

    >>> without_folders("/srv/shop/bundle/live/events.sqlite: the disk is full; see redis://cache/0 and demo/bundle")
    'live/events.sqlite: the disk is full; see redis://cache/0 and demo/bundle'
    """
    return ABSOLUTE_PATH.sub(lambda path: "/".join(path[0].strip("/").split("/")[-2:]), text)


def add_problems(app: FastAPI) -> None:
    """Answers every error that a caller can cause with a problem; see `serving.http.middleware` for all others."""

    async def told(request: Request, error: Exception) -> Response:
        problem, request_id = _problem(error, request), request.scope.get("request_id", "")
        if isinstance(error, ShortlistError) and problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request %s: %s", request_id, error)  # with the paths that its caller does not get
        return problem_response(problem, request_id)

    for kind in (Problem, ShortlistError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, told)


def _problem(error: Exception, request: Request) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ShortlistError):
        return problem_of(error)
    if isinstance(error, RequestValidationError):
        return Problem(HTTPStatus.BAD_REQUEST, _described(error.errors()), error=BadRequest.__name__)
    assert isinstance(error, HTTPException)
    cause = error.__cause__  # FastAPI turns whatever ended the reading of a body into an error of its own
    return cause if isinstance(cause, Problem) else _of_http(error, request)


def _of_http(error: HTTPException, request: Request) -> Problem:
    status = HTTPStatus(error.status_code)
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND:
        detail = "there is no such resource; /openapi.json lists them"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(_methods(request)))
        return Problem(
            status, f"{request.method:.20} is not possible here; use {allowed}", headers={"Allow": allowed}
        )  # fmt: skip
    elif status is HTTPStatus.BAD_REQUEST:
        detail = "the body cannot be read; send JSON in UTF-8"
    return Problem(status, detail, headers=error.headers)


def _methods(request: Request) -> set[str]:
    """What the path of a request may be asked with."""
    found = {
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }
    return found | ({"HEAD"} if "GET" in found else set())


def _described(faults: Sequence[Any]) -> str:
    """The first few faults of a body: where, and what."""
    told = []
    for fault in faults[:3]:
        if fault["type"] == "json_invalid":
            return f"the body is no JSON: {fault['ctx']['error']} at character {fault['loc'][1]}; send JSON in UTF-8"
        place = ".".join(str(part) for part in fault["loc"][1:])  # the first is what it is a part of
        told.append(f"{place or 'the body'}: {fault['msg']}")
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(told) + more
