"""Why items are answered, and why one is not."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from retrieval.errors import BadRequest
from serving.http.access import BEARER, needs
from serving.http.answers import Answering, ruled
from serving.http.as_json import as_json
from serving.http.bodies import ExplainBody, WhyNotBody
from serving.http.routes.answers import answered, permit_rules
from serving.http.routes.sending import json_response, run
from serving.http.shapes import AnswerShape, WhyNotShape

router = APIRouter(prefix="/v1", tags=["why"], dependencies=[Depends(BEARER), Depends(needs("read"))])


@router.post("/explain", operation_id="explain", response_model=AnswerShape)
async def explain(body: ExplainBody, request: Request) -> Response:
    """An answer whose hits say why they stand where they do."""
    return await answered(request, body.request, explain=body.request.explain or True)


@router.post("/why-not", operation_id="why_not", response_model=WhyNotShape)
async def why_not(body: WhyNotBody, request: Request) -> Response:
    """Why an item is not among those answered to a request, and what would bring it in."""
    answering: Answering = request.app.state.answering
    await permit_rules(request, body.request)
    if body.request.cursor is not None:
        raise BadRequest("why-not is asked of a request without a cursor; leave it out")
    asked = answering.checked(body.request.request())

    def found() -> bytes:
        state = ruled(answering.engine.state, body.request.rules)
        told = answering.engine.why_not(asked, body.item_id, state=state)
        return as_json(told.to_dict(body.request.language or "en"))

    return json_response(await run(request, found))
