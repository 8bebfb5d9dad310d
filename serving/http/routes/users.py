"""Shoppers: what is known of one, and forgetting one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from serving.answering.lookup import history_of, users_with
from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.as_json import as_json
from serving.http.bodies import Id
from serving.http.problems import without_folders
from serving.http.routes.sending import NOT_CACHED, change, json_response, run
from serving.http.shapes import ForgottenShape, UserIdsShape, UserShape

router = APIRouter(prefix="/v1", tags=["users"], dependencies=[Depends(BEARER)])


@router.get("/users", operation_id="find_users", response_model=UserIdsShape, dependencies=[Depends(needs("read"))])
async def find(
    request: Request,
    prefix: Annotated[str, Query(max_length=1_000)] = "",
    k: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Ids of shoppers that begin with a text."""
    answering: Answering = request.app.state.answering
    found = await run(request, lambda: users_with(answering.engine.state, prefix, k))
    return json_response(as_json({"users": found}), NOT_CACHED)


@router.get(
    "/users/{user_id:path}", operation_id="get_user", response_model=UserShape, dependencies=[Depends(needs("read"))]
)
async def read(user_id: Id, request: Request, k: Annotated[int, Query(ge=1, le=1_000)] = 50) -> Response:
    """What a shopper did, newest first; nothing for one who is not known."""
    answering: Answering = request.app.state.answering
    found = await run(request, lambda: history_of(answering.engine.state, user_id, k))
    told = {"user_id": user_id, "events": [event._asdict() for event in found]}
    return json_response(as_json(told), NOT_CACHED)


@router.delete("/users/{user_id:path}", operation_id="forget_user", dependencies=[Depends(needs("admin"))])
async def forget(user_id: Id, request: Request) -> ForgottenShape:
    """Remove every trace of a shopper, see `Engine.forget`."""
    answering: Answering = request.app.state.answering
    found = await change(request, lambda: answering.engine.forget(user_id))
    return ForgottenShape(removed=[*map(without_folders, found.removed)], left=[*map(without_folders, found.left)])
