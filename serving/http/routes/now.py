"""What Prometheus reads, and the last minute for whoever looks."""

from __future__ import annotations

import json

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from retrieval.errors import ShortlistError
from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.observing.metrics import CONTENT_TYPE
from serving.http.observing.observing import Observing
from serving.http.routes.sending import NOT_CACHED, json_response
from serving.http.shapes import NowShape

router = APIRouter(tags=["now"], dependencies=[Depends(BEARER), Depends(needs("read"))])


@router.get("/v1/now", operation_id="get_now", response_model=NowShape)
async def now(request: Request) -> Response:
    """Rates, latency and shares of the last minute, and the last 50 requests, of all workers."""
    observing: Observing = request.app.state.observing
    return json_response(json.dumps(observing.recent.now()).encode(), NOT_CACHED)


@router.get(
    "/metrics", operation_id="get_metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
def metrics(request: Request) -> Response:
    """Metrics of all workers, as Prometheus reads them; see `docs/server.md`."""
    observing: Observing = request.app.state.observing
    answering: Answering = request.app.state.answering
    try:
        state = answering.engine.state
    except ShortlistError:  # the rest is told as ever
        state = None
    return Response(observing.metrics.text(state), headers={**NOT_CACHED, "Content-Type": CONTENT_TYPE})
