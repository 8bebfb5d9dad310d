"""What the release that answers is made of."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.as_json import as_json
from serving.http.routes.sending import json_response, run
from serving.http.shapes import BundleShape
from serving.reporting.release_view import release_view

router = APIRouter(prefix="/v1", tags=["releases"], dependencies=[Depends(BEARER), Depends(needs("read"))])


@router.get("/bundle", operation_id="get_bundle", response_model=BundleShape)
async def bundle(request: Request) -> Response:
    """The release that answers: its gates in words, its figures, its index, its sources and its features."""
    answering: Answering = request.app.state.answering
    told = await run(request, lambda: as_json(release_view(answering.engine.state)))
    return json_response(told)
