"""The merchandising rules in force, and checking others."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.as_json import as_json
from serving.http.bodies import RulesBody
from serving.http.routes.sending import json_response, run
from serving.http.rules import checked_rules, rules_in_force
from serving.http.shapes import CheckedRulesShape, RulesShape

router = APIRouter(prefix="/v1", tags=["rules"], dependencies=[Depends(BEARER), Depends(needs("read"))])


@router.get("/rules", operation_id="get_rules", response_model=RulesShape)
async def rules(request: Request) -> Response:
    """The rules in force, and what is wrong with their file where it was changed since."""
    answering: Answering = request.app.state.answering
    return json_response(as_json(await run(request, lambda: rules_in_force(answering.engine))))


@router.post("/rules/check", operation_id="check_rules", response_model=CheckedRulesShape)
async def check(body: RulesBody, request: Request) -> Response:
    """Every fault of a rules file with its line, and contradictions over the items that answer."""
    answering: Answering = request.app.state.answering
    found = await run(request, lambda: checked_rules(answering.engine.state, body.toml))
    return json_response(as_json(found))
