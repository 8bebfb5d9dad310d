"""The catalogue that answers: looked up, added to, changed, deleted from."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from retrieval.errors import BadRequest
from serving.answering.lookup import items_of
from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.as_json import as_json
from serving.http.bodies import Id, ItemsBody
from serving.http.live_items import LiveItems
from serving.http.problems import Problem
from serving.http.routes.sending import change, json_response, run
from serving.http.shapes import ItemsShape, UpdatedShape

router = APIRouter(prefix="/v1", tags=["items"], dependencies=[Depends(BEARER)])


@router.get("/items", operation_id="get_items", response_model=ItemsShape, dependencies=[Depends(needs("read"))])
async def items(request: Request, id: Annotated[list[Id], Query(max_length=100, examples=[["i12"]])]) -> Response:
    """Every attribute of items, in the order of their ids; unknown ones are left out."""
    answering: Answering = request.app.state.answering
    found = await run(request, lambda: items_of(answering.engine.state, id))
    return json_response(as_json({"items": found}), {"Cache-Control": "private, max-age=30"})


@router.post("/items", operation_id="update_items", dependencies=[Depends(needs("write"))])
async def update(body: ItemsBody, request: Request) -> UpdatedShape:
    """Add, change and delete items of the live index. Columns that an item lacks keep their values.

    It is answered from within a second, by every process that has the bundle open.
    """
    live = LiveItems.of(request.app)
    answering: Answering = request.app.state.answering
    n = len(body.upsert) + len(body.delete)
    if not n:
        raise BadRequest("there is nothing to change; send upsert, a list of items, or delete, a list of ids")
    if n > answering.limits.items:
        raise BadRequest(f"there are {n:,} items; send {answering.limits.items:,} at most")
    return UpdatedShape(**(await change(request, lambda: live.update(body.upsert, body.delete))))


@router.delete("/items/{item_id:path}", operation_id="delete_item", dependencies=[Depends(needs("write"))])
async def delete(item_id: Id, request: Request) -> UpdatedShape:
    """Delete one item of the live index."""
    live = LiveItems.of(request.app)
    found = await change(request, lambda: live.update([], [item_id]))
    if not found["deleted"]:
        raise Problem(HTTPStatus.NOT_FOUND, f"item {item_id:.80} is not in the index; look it up with GET /v1/items")
    return UpdatedShape(**found)
