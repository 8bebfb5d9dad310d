"""What every resource does: asks on a thread, and sends JSON that is made already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response

NOT_CACHED = {"Cache-Control": "no-store"}


async def run(request: Request, call: Callable[[], Any]) -> Any:
    """What a call returns, on a thread, once there is room for it."""
    return await request.app.state.admission.run(call)


async def change(request: Request, call: Callable[[], Any]) -> Any:
    """What a call that changes the bundle returns, which may take long, and takes no thread from those that answer."""
    return await request.app.state.changes.run(call)


def json_response(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is made already."""
    return Response(body, HTTPStatus.OK.value, headers, "application/json")
