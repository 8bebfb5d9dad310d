"""Whether the server runs, and whether it answers."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request

from serving.http.problems import RETRY_AFTER, Problem
from serving.http.shapes import HealthShape

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="is_alive")
async def alive() -> HealthShape:
    """Answers as long as the process runs."""
    return HealthShape(status="alive")


@router.get("/readyz", operation_id="is_ready")
async def ready(request: Request) -> HealthShape:
    """Answers once a first request went through every model, and until the server is told to end."""
    if not getattr(request.app.state, "ready", False):
        detail = "the models are not warm yet, or the server is about to end; ask again in a second"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": RETRY_AFTER})
    return HealthShape(status="ready")
