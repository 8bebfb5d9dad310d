"""Around each request: an id, a limit for its body and the time it takes, headers, and who is told of its end."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.cross_site import refuse_other_hosts, refuse_other_sites
from serving.http.observing.seen import ANSWERS, EVENTS, Observer, Seen
from serving.http.options import Limits
from serving.http.problems import FAILED, Problem, problem_response

DRAINED, DRAINED_FOR = 16, 2.0  # times the largest body, and seconds, that too large a one is read to its end
REQUEST_ID = re.compile(rb"[\w.:-]{1,64}", re.ASCII)
TRACE = (b"traceparent", b"tracestate")
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", CONTENT_SECURITY.encode()),
    (b"x-frame-options", b"DENY"),
)

log = logging.getLogger(__name__)


class Around:
    """The outermost layer of the application. `only_local` says whether requests to other names than those of this
    machine are refused now."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        observers: Sequence[Observer] = (),
        only_local: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._limits, self._observers, self._only_local = app, limits, observers, only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid4().hex
        asked = scope["method"]
        scope["request_id"] = request_id
        scope["state"] = {**scope.get("state", {})}
        if asked == "HEAD":  # answered as GET is, but for the body
            scope = {**scope, "method": "GET"}
        body = _Body(receive, self._limits, begun)
        reply = _Reply(send, body, request_id, without_body=asked == "HEAD")
        try:
            self._refuse(scope["method"], headers, body)
            await self._app(scope, body, reply)
        except Exception as error:
            problem = error if isinstance(error, Problem) else FAILED
            if problem is FAILED:
                log.error("request %s failed", request_id, exc_info=error)
            if reply.begun:  # the caller sees that the answer is cut short
                raise
            await problem_response(problem, request_id)(scope, receive, reply)
        finally:
            route = scope.get("route")
            seen = Seen(
                request_id,
                asked,
                getattr(route, "path_format", "") or "other",
                reply.status,
                time.perf_counter() - begun,
                time.time(),
                scope["state"].get(ANSWERS, ()),
                scope["state"].get(EVENTS, 0),
                {name.decode(): headers[name].decode("latin-1") for name in TRACE if name in headers},
            )
            self._tell(seen)

    def _refuse(self, method: str, headers: Mapping[bytes, bytes], body: _Body) -> None:
        """Raises Problem for a request that is refused by its head alone."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._limits.body_bytes:
            raise body.too_large()
        if self._only_local():
            refuse_other_hosts(headers)
        refuse_other_sites(method, headers)

    def _tell(self, seen: Seen) -> None:
        for observer in self._observers:
            try:
                observer.ended(seen)
            except Exception:  # the answer is on its way
                log.exception("request %s was not observed", seen.request_id)


class _Reply:
    """Sends an answer with the headers that every answer has; `status` is that of a fault until it has `begun`."""

    def __init__(self, send: Send, body: _Body, request_id: str, *, without_body: bool) -> None:
        self._send, self._body, self._request_id, self._without_body = send, body, request_id, without_body
        self.status, self.begun = HTTPStatus.INTERNAL_SERVER_ERROR.value, False

    async def __call__(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            if self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                await self._body.drain()
            own = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in HEADERS if header[0] not in own),
                (b"x-request-id", self._request_id.encode()),
            ]
        elif self._without_body:
            message = {**message, "body": b""}
        await self._send(message)


class _Body:
    """Receives a body that is not too large, and in time."""

    def __init__(self, receive: Receive, limits: Limits, begun: float) -> None:
        self._receive, self._limits, self._begun, self._size = receive, limits, begun, 0
        self._whole = False

    def too_large(self) -> Problem:
        """What ends a request with too large a body."""
        most = self._limits.body_bytes
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {most:,} bytes; send less at once",
            headers={"Connection": "close"},
        )

    async def drain(self) -> None:
        """Reads on for a while and forgets what comes: a caller who still sends would not see the answer."""
        left, end = DRAINED * self._limits.body_bytes, time.perf_counter() + DRAINED_FOR
        while not self._whole and left > 0 and (wait := end - time.perf_counter()) > 0:
            try:
                message = await asyncio.wait_for(self._receive(), wait)
            except TimeoutError:
                return
            self._whole = not message.get("more_body", False)
            left -= len(message.get("body", b""))

    async def __call__(self) -> Message:
        """ASGI's receive. Raises Problem 413 and 408."""
        if self._whole:
            return await self._receive()
        left = self._limits.timeout_s - (time.perf_counter() - self._begun)
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except TimeoutError:
            raise Problem(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not come within {self._limits.timeout_s:g} s; send it again",
                headers={"Connection": "close"},
            ) from None
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._limits.body_bytes:
            raise self.too_large()
        return message
