"""Connections that are not left open for nothing: a time and a size for the head of a request, a time for callers to
read an answer, and a number of them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.options import Limits
from serving.http.problems import MEDIA_TYPE, Problem, problem_response

LAST_CHANCE = 0.25  # seconds for a request that is under way on an open connection when the server is told to end


def bounded(limits: Limits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol of HTTP within limits: of more connections than `limits.connections` the one is closed that
    has asked for nothing for longest, the newest where all are busy; and so is one that does not send the head of a
    request within `limits.timeout_s`, sends more than `limits.head_bytes` of it, or does not read an answer for
    `limits.timeout_s`."""
    return type("Bounded", (Bounded,), {"limits": limits, "idle": {}})


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol of HTTP within `limits`; `idle` are connections that ask for nothing, the longest first."""

    limits: Limits
    idle: dict[HttpToolsProtocol, None]
    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _ending = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            one = next(iter(self.idle), self)
            self.idle.pop(one, None)
            one.transport.abort()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        self._has_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"send {self.limits.head_bytes:,} bytes at most")
        elif self._in_head and self._head_bytes and self._head is None:
            self._await_head()  # an empty line is no beginning of a request

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP request; send HTTP/1.1")

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._has_head()
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0  # of the next request

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self.idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._has_read()
        self._reader = self.loop.call_later(self.limits.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._has_read()
        super().resume_writing()

    def shutdown(self) -> None:
        """An idle connection may have a request under way, which is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif not self._ending:
            self._ending = True
            self.loop.call_later(LAST_CHANCE, super().shutdown)

    def _await_head(self) -> None:
        self._has_head()
        self._in_head = True
        self.idle[self] = None
        self._head = self.loop.call_later(self.limits.timeout_s, self.transport.close)

    def _has_head(self) -> None:
        self._in_head = False
        self.idle.pop(self, None)
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        body = problem_response(Problem(status, detail), "").body
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nConnection: close\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + bytes(body))
        self.transport.close()

    def _has_read(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
