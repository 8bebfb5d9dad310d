"""The calls of a server: what is sent, and how what comes back is read. Nothing here knows how it travels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

from retrieval.errors import BadRequest
from serving.answering.live.forget import Forgotten
from serving.answering.lookup import PastEvent
from serving.client.results import CheckedRules, Moved, Releases, RulesInForce, Updated
from serving.explanation import of_json
from serving.request import Answer, Request
from serving.why_not.result import WhyNot

T = TypeVar("T")
AT_ONCE = 3_000  # characters of the ids of items that are looked up at once
LISTS = ("rules", "faults", "contradictions", "warnings", "releases", "moves")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One call. `repeatable`: made twice it does what it does once, so that it may be sent again where it is not known
    whether it arrived."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = None
    repeatable: bool = True


def answer(request: Request, cursor: str | None = None) -> Call[tuple[Answer, str | None]]:
    """The answer to a request, or what follows the one that a cursor came with; and the cursor to what follows it."""
    task, fields = _asked(request)
    path = {"complete_cart": "cart"}.get(task, task)
    more = {} if cursor is None else {"cursor": cursor}
    return Call(method="POST", path=f"/v1/{path}", body=_json({**fields, **more}), read=_answer)


def answers(requests: Sequence[Request]) -> Call[list[Answer]]:
    """The answers to several requests, in their order."""
    body = _json({"requests": [_with_task(request) for request in requests]})
    return Call(method="POST", path="/v1/batch", body=body, read=lambda told: list(map(_items, told["answers"])))


def why_not(request: Request, item_id: str) -> Call[WhyNot]:
    """Why an item is not answered."""
    body = _json({"request": _with_task(request), "item_id": item_id})
    return Call(method="POST", path="/v1/why-not", body=body, read=WhyNot.from_dict)


def record_many(events: Iterable[Mapping[str, Any]]) -> Call[int]:
    """Keeps events; how many are new."""
    body = _json({"events": [_identified(one) for one in events]})
    return Call(method="POST", path="/v1/events", body=body, read=lambda told: int(told["new"]))


def forget(user_id: str) -> Call[Forgotten]:
    """Removes a shopper."""
    return Call(
        method="DELETE",
        path=f"/v1/users/{_part(user_id)}",
        read=lambda told: Forgotten(tuple(told["removed"]), tuple(told["left"])),
    )


def history(user_id: str, k: int) -> Call[list[PastEvent]]:
    """What a shopper did."""
    path = f"/v1/users/{_part(user_id)}?{urlencode({'k': k})}"
    return Call(method="GET", path=path, read=lambda told: [of_json(PastEvent, one) for one in told["events"]])


def find_users(prefix: str, k: int) -> Call[list[str]]:
    """Ids of shoppers."""
    path = f"/v1/users?{urlencode({'prefix': prefix, 'k': k})}"
    return Call(method="GET", path=path, read=lambda told: list(told["users"]))


def items(item_ids: Sequence[str]) -> Iterator[Call[list[dict[str, Any]]]]:
    """The attributes of items, a few at a time: ids travel in the address."""
    some: list[str] = []
    for at, item_id in enumerate(item_ids):
        some.append(item_id)
        if len(some) == 100 or sum(map(len, some)) > AT_ONCE or at == len(item_ids) - 1:
            path = f"/v1/items?{urlencode({'id': some}, doseq=True, errors='replace')}"
            yield Call(method="GET", path=path, read=lambda told: list(told["items"]))
            some = []


def update_items(upsert: Sequence[Mapping[str, Any]], delete: Sequence[str]) -> Call[Updated]:
    """Changes the live index."""
    body = _json({"upsert": [dict(item) for item in upsert], "delete": list(delete)})
    return Call(method="POST", path="/v1/items", body=body, read=partial(of_json, Updated))


def rules() -> Call[RulesInForce]:
    """The rules in force."""
    return Call(method="GET", path="/v1/rules", read=partial(_with_tuples, RulesInForce))


def check_rules(toml: str) -> Call[CheckedRules]:
    """Checks rules."""
    body = _json({"toml": toml})
    return Call(method="POST", path="/v1/rules/check", body=body, read=partial(_with_tuples, CheckedRules))


def releases() -> Call[Releases]:
    """Lists releases."""
    return Call(method="GET", path="/v1/releases", read=partial(_with_tuples, Releases))


def activate(release: str) -> Call[Moved]:
    """Makes a release live."""
    return Call(method="POST", path=f"/v1/releases/{_part(release)}/activate", read=partial(of_json, Moved))


def roll_back() -> Call[Moved]:
    """Makes the release before live: twice is not once."""
    return Call(method="POST", path="/v1/releases/rollback", read=partial(of_json, Moved), repeatable=False)


def ready() -> Call[bool]:
    """Whether the server answers."""
    return Call(method="GET", path="/readyz", read=lambda told: told["status"] == "ready")


def _asked(request: Request) -> tuple[str, dict[str, Any]]:
    """The task and the fields of a request as the server takes them: those that are not as they are by default."""
    fields = {
        name: value
        for name, value in vars(request).items()
        if (field := Request.__dataclass_fields__.get(name)) and name != "task" and value != field.default
    }
    if request.task == "similar":
        (item_id,) = fields.pop("history", [None]) if len(request.history or ()) == 1 else (None,)
        if item_id is None:
            raise BadRequest("similar items are asked for with one item id as the history; give a list of one")
        return "similar", _without({**fields, "item_id": item_id}, *_RERANKED, "query", "spellcheck")
    if request.task == "complete_cart":
        cart = {**fields, "items": list(fields.pop("history", []))}
        return "complete_cart", _without(cart, "query", "spellcheck", "history")
    if request.query is not None:
        return "search", {**fields, "query": request.query, "filter_seen": request.filter_seen}
    if request.task == "recommend_unseen":
        fields["filter_seen"] = True
    return "recommend", _without(fields, "spellcheck")


_RERANKED = ("user_id", "filter_seen", "rerank", "deadline_ms", "history")


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Fields without those that a task does not read."""
    return {name: value for name, value in fields.items() if name not in names}


def _with_task(request: Request) -> dict[str, Any]:
    task, fields = _asked(request)
    return {"task": task, **fields}


def _identified(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """An event that is kept once however often it is sent. With a timestamp the server tells it from all others."""
    if not isinstance(event, Mapping) or event.get("event_id") or event.get("timestamp") is not None:
        return event
    return {**event, "event_id": uuid4().hex}


def _items(told: Mapping[str, Any]) -> Answer:
    return Answer.from_dict(told)


def _answer(told: Mapping[str, Any]) -> tuple[Answer, str | None]:
    return Answer.from_dict(told), told["next_cursor"]


def _with_tuples(kind: type[Any], told: Mapping[str, Any]) -> Any:
    return of_json(kind, {name: tuple(value) if name in LISTS else value for name, value in told.items()})


def _part(name: str) -> str:
    """A name as one part of a path; also those that paths have a meaning for."""
    if not isinstance(name, str) or not name:
        raise BadRequest(f"the id is {name!r:.80}; give a string that is not empty")
    return quote(name, safe="", errors="replace") if name.strip(".") else name.replace(".", "%2E")


def _json(body: Mapping[str, Any]) -> bytes:
    """A body. Raises BadRequest for what is no JSON."""
    try:
        return json.dumps(body, allow_nan=False, default=_as_json).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"this cannot be sent as JSON: {error}; give texts, finite numbers, lists and dates") from None


def _as_json(value: object) -> object:
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}")
