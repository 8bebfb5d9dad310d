"""Recommendations, searches, similar items, carts, and several at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from retrieval.errors import BadRequest
from serving.http.access import BEARER, needs
from serving.http.answers import Answering, answer_json, entity_tag, has_tag, ruled
from serving.http.as_json import as_json
from serving.http.bodies import BatchBody, CartBody, RecommendBody, SearchBody, SimilarBody
from serving.http.observing.seen import Answered, note_answers
from serving.http.routes.sending import NOT_CACHED, json_response, run
from serving.http.shapes import AnswerShape, AnswersShape
from serving.request import Answer, Explain
from serving.request import Request as EngineRequest
from serving.texts.catalogue import Language

T = TypeVar("T")
AnyBody = RecommendBody | SearchBody | SimilarBody | CartBody
CACHED = {"Cache-Control": "private, max-age=30"}  # answers that nobody's history is in

router = APIRouter(prefix="/v1", tags=["answers"], dependencies=[Depends(BEARER), Depends(needs("read"))])


@router.post("/recommend", operation_id="recommend", response_model=AnswerShape)
async def recommend(body: RecommendBody, request: Request) -> Response:
    """The k best items for a shopper."""
    return await answered(request, body)


@router.post("/search", operation_id="search", response_model=AnswerShape)
async def search(body: SearchBody, request: Request) -> Response:
    """The k best items for a query."""
    return await answered(request, body)


@router.post("/similar", operation_id="similar", response_model=AnswerShape)
async def similar(body: SimilarBody, request: Request) -> Response:
    """The k items most similar to an item."""
    return await answered(request, body)


@router.post("/cart", operation_id="complete_cart", response_model=AnswerShape)
async def cart(body: CartBody, request: Request) -> Response:
    """The k items that best complete a cart."""
    return await answered(request, body)


@router.get(
    "/search", operation_id="get_search", response_model=AnswerShape, responses={304: {"description": "as before"}}
)
async def get_search(
    request: Request,
    query: Annotated[str, Query(max_length=10_000, examples=["oak desk"])],
    k: Annotated[int, Query(ge=1)] = 10,
    language: Language | None = None,
) -> Response:
    """The k best items for a query of nobody in particular, which caches may keep."""
    return await answered(
        request, SearchBody.model_validate({"query": query, "k": k, "language": language}), cached=True
    )


@router.get(
    "/similar", operation_id="get_similar", response_model=AnswerShape, responses={304: {"description": "as before"}}
)
async def get_similar(
    request: Request,
    item_id: Annotated[str, Query(min_length=1, max_length=1_000, examples=["i12"])],
    k: Annotated[int, Query(ge=1)] = 10,
    language: Language | None = None,
) -> Response:
    """The k items most similar to an item, which caches may keep."""
    return await answered(
        request, SimilarBody.model_validate({"item_id": item_id, "k": k, "language": language}), cached=True
    )


@router.post("/batch", operation_id="batch", response_model=AnswersShape)
async def batch(body: BatchBody, request: Request) -> Response:
    """Several requests, each answered as it would be alone, all from the same state of the same release."""
    answering: Answering = request.app.state.answering
    if len(body.requests) > answering.limits.batch:
        raise BadRequest(f"there are {len(body.requests):,} requests; send {answering.limits.batch:,} at most")
    if any(one.cursor is not None for one in body.requests):
        raise BadRequest("a request of a batch has no cursor; send one that has alone, to the resource of its task")
    await permit_rules(request, *body.requests)
    asked = [_of_batch(at, partial(_checked, answering, one)) for at, one in enumerate(body.requests)]

    def answers() -> tuple[list[Answer], bytes]:
        engine, state, found = answering.engine, answering.engine.state, list[Answer]()
        for at, (one, given) in enumerate(zip(asked, body.requests, strict=True)):
            found.append(_of_batch(at, partial(engine.answer, one, state=ruled(state, given.rules))))
        told = [answer_json(one, given.language, None) for one, given in zip(found, body.requests, strict=True)]
        return found, as_json({"answers": told})

    found, told = await run(request, answers)
    tasks = [one.task or "" for one in asked]
    note_answers(request.scope, *map(Answered, tasks, found))
    return json_response(told, NOT_CACHED)


def _checked(answering: Answering, body: AnyBody) -> EngineRequest:
    return answering.checked(body.request())


def _of_batch(at: int, call: Callable[[], T]) -> T:
    """What a call for one request of a batch returns. Raises BadRequest that says which, counted from 0."""
    try:
        return call()
    except BadRequest as error:
        raise BadRequest(f"requests.{at}: {error}") from error


async def answered(
    request: Request, body: AnyBody, *, cached: bool = False, explain: Explain | None = None
) -> Response:
    """The answer to a body; where it may be cached, with a tag, or nothing where the caller has it."""
    answering: Answering = request.app.state.answering
    await permit_rules(request, body)
    asked = body.request()
    asked = asked if explain is None else asked.alike(explain=explain)

    def answer() -> tuple[Answer, bytes, str]:
        found, follows = answering.answer(asked, body.cursor, rules=body.rules)
        told = answer_json(found, body.language, follows)
        return found, as_json(told), entity_tag(told) if cached else ""

    found, told, tag = await run(request, answer)
    note_answers(request.scope, Answered(asked.task or "", found))
    if not cached:
        return json_response(told, NOT_CACHED)
    headers = {**CACHED, "ETag": tag}
    if has_tag(tag, request.headers.get("if-none-match", "")):
        return Response(None, HTTPStatus.NOT_MODIFIED.value, headers)
    return json_response(told, headers)


async def permit_rules(request: Request, *bodies: AnyBody) -> None:
    """Lets bodies pass that keep the merchandising rules, others with the scope admin alone. Raises Problem 401 and
    403."""
    if not all(body.rules for body in bodies):
        await needs("admin")(request)
