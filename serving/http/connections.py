"""Connections that are not left open for nothing: a time for the head of a request, and a number of them."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.options import Limits


def bounded(limits: Limits) -> type[HttpToolsProtocol]:
    """uvicorn's protocol of HTTP within limits: of more connections than `limits.connections` the newest is closed, and
    so is one that does not send the head of a request within `limits.timeout_s`."""

    class Bounded(HttpToolsProtocol):
        _head: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._has_head()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._await_head()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._has_head()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._has_head()
            self._head = self.loop.call_later(limits.timeout_s, self._late)

        def _has_head(self) -> None:
            if self._head is not None:
                self._head.cancel()

        def _late(self) -> None:
            self.transport.close()

    return Bounded
