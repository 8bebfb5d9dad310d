"""An engine and clients of a server over it are asked the same, and answer the same."""

from __future__ import annotations

import asyncio
import inspect
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from engine_changes import ids
from http_servers import running
from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from serving.answering.live.forget import Forgotten
from serving.client import AsyncClient, Client
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE
from serving.http.app import make_app
from serving.request import Answer, Request
from serving.why_not.result import WhyNot

KINDS = ("engine", "client", "async client")


class Waiting:
    """An AsyncClient of which every call is waited for."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: object, **options: object) -> Any:
            found = getattr(self._client, name)(*given, **options)
            if inspect.isasyncgen(found):
                return iter(self._runner.run(_all_of(found)))
            return self._runner.run(found)

        return call


async def _all_of(found: Any) -> list[Any]:
    return [one async for one in found]


@pytest.fixture(scope="module")
def own_engine(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that may keep events, whose second stage is on."""
    path = Path(shutil.copytree(bundle_path, tmp_path_factory.mktemp("contract") / "bundle"))
    with Engine.open(path, device="cpu", auto_reload=False) as engine:
        engine._source = replace(cast("Any", engine._source), reranks=EVERY_GATE)
        yield engine


@pytest.fixture(scope="module", params=KINDS)
def shop(request: pytest.FixtureRequest, own_engine: Engine) -> Iterator[Engine]:
    """What is asked; typed as an engine, for its calls are those of an engine."""
    app = make_app(own_engine)
    if request.param == "engine":
        yield own_engine
    elif request.param == "client":
        with running(app) as address, Client(address) as client:
            yield cast("Engine", client)
    else:
        with asyncio.Runner() as runner:
            client = AsyncClient("http://shop", transport=httpx.ASGITransport(app))
            yield cast("Engine", Waiting(client, runner))
            runner.run(client.aclose())


def lasting(answer: Answer) -> Answer:
    """An answer but for how long it took."""
    return replace(answer, timings_ms={})


ASKED: dict[str, Callable[[Engine, DataSet], Answer]] = {
    "a known shopper": lambda shop, data: shop.recommend(user_id=data.user_ids[0], k=7),
    "a stranger": lambda shop, data: shop.recommend(user_id="nobody/../?&=%"),
    "a history": lambda shop, data: shop.recommend(history=list(data.item_ids[:3]), k=3, filter_seen=False),
    "a history of events": lambda shop, data: shop.recommend(
        history=[
            (data.item_ids[0], "view", datetime(2026, 1, 1, 12, tzinfo=UTC)),
            (data.item_ids[1], None, "2026-01-01T13:00"),
            data.item_ids[2],
        ]
    ),
    "a recommendation with a query": lambda shop, data: shop.recommend(user_id=data.user_ids[1], query="red mug"),
    "a search": lambda shop, data: shop.search("red mug", k=5),
    "a search as typed": lambda shop, data: shop.search("mugg", spellcheck=False),
    "a misspelt search": lambda shop, data: shop.search("mugg"),
    "an empty search": lambda shop, data: shop.search(""),
    "a search in Chinese": lambda shop, data: shop.search("红色 杯子 🛒"),
    "a personal search": lambda shop, data: shop.search("mug", user_id=data.user_ids[2], filter_seen=None),
    "a search without the second stage": lambda shop, data: shop.search("mug", rerank=False),
    "filters as text": lambda shop, data: shop.search("mug", filters="price < 30 and in_stock = true"),
    "filters as lists": lambda shop, data: shop.recommend(filters=[[("price", "<", 30.0)], [("price", ">", 90)]]),
    "diverse items": lambda shop, data: shop.recommend(user_id=data.user_ids[0], diversity=0.5, diversify_by="dpp"),
    "a page and an audience": lambda shop, data: shop.recommend(page="home", audience={"member": True, "age": [1, 2]}),
    "similar items": lambda shop, data: shop.similar(data.item_ids[3], k=4),
    "what is similar to nothing known": lambda shop, data: shop.similar("no such item"),
    "a cart": lambda shop, data: shop.complete_cart(list(data.item_ids[4:6]), user_id=data.user_ids[3]),
    "an empty cart": lambda shop, data: shop.complete_cart([]),
    "a request": lambda shop, data: shop.answer(Request(user_id=data.user_ids[0], task="recommend_unseen")),
    "a personalised request": lambda shop, data: shop.answer(
        Request(task="personalised_search", query="mug", history=[data.item_ids[0]])
    ),
    "reasons": lambda shop, data: shop.search("red mug", user_id=data.user_ids[0], explain=True),
    "all reasons": lambda shop, data: shop.recommend(user_id=data.user_ids[0], k=2, explain="full"),
    "reasons of a cart": lambda shop, data: shop.complete_cart(list(data.item_ids[:2]), explain=True),
}


@pytest.mark.parametrize("asked", ASKED)
def test_the_same_is_answered(shop: Engine, own_engine: Engine, data: DataSet, asked: str) -> None:
    answer, expected = ASKED[asked](shop, data), ASKED[asked](own_engine, data)
    assert lasting(answer) == lasting(expected)
    assert answer.items
    assert set(answer.timings_ms) == set(expected.timings_ms)
    for hit, other in zip(answer.items, expected.items, strict=True):  # mappings, too, which are no part of equality
        assert hit.to_dict("zh") == other.to_dict("zh")
    assert answer.notes("zh") == expected.notes("zh")


def test_reasons_can_be_told_in_every_language(shop: Engine, data: DataSet) -> None:
    hit = shop.search("red mug", user_id=data.user_ids[0], explain=True).items[0]
    assert hit.explanation is not None
    english, chinese = ([reason.text(language) for reason in hit.explanation.reasons] for language in ("en", "zh"))
    assert english
    assert set(english).isdisjoint(chinese)


@pytest.mark.parametrize("wanted", [0, 30, 119, "no such item"])
def test_why_an_item_is_not_answered(shop: Engine, own_engine: Engine, data: DataSet, wanted: int | str) -> None:
    item = data.item_ids[wanted] if isinstance(wanted, int) else wanted
    for request in (Request(query="red mug", k=3), Request(user_id=data.user_ids[0], k=2, filters="price < 20")):
        found, expected = shop.why_not(request, item), own_engine.why_not(request, item)
        assert isinstance(found, WhyNot)
        assert found == expected
        assert found.to_dict("zh") == expected.to_dict("zh")


WRONG: dict[str, tuple[Callable[[Engine], object], str]] = {
    "an unknown column": (lambda shop: shop.recommend(filters="colour = red"), "colour"),
    "no filter": (lambda shop: shop.recommend(filters="price <"), "filter"),
    "a value of another kind": (lambda shop: shop.recommend(filters=[("price", "<", "cheap")]), "price"),
    "no item": (lambda shop: shop.recommend(k=0), "k is 0"),
    "no time": (lambda shop: shop.search("mug", deadline_ms=-1), "deadline_ms"),
    "an event without a kind": (lambda shop: shop.record("ann", "mug", ""), "event"),
    "an event of the future": (lambda shop: shop.record("ann", "mug", "view", "2100-01-01"), "timestamp"),
    "a price that is none": (lambda shop: shop.record("ann", "mug", "view", price=math.nan), "finite number"),
    "the second of two events": (
        lambda shop: shop.record_many(
            [{"user_id": "ann", "item_id": "mug", "event": "view"}, {"user_id": "ann", "item_id": "mug"}]
        ),
        "1",
    ),
}


@pytest.mark.parametrize("asked", WRONG)
def test_a_wrong_request_is_refused_with_what_is_wrong(shop: Engine, asked: str) -> None:
    call, told = WRONG[asked]
    with pytest.raises(BadRequest, match=told):
        call(shop)


def test_an_unknown_column_is_refused_in_the_same_words(shop: Engine, own_engine: Engine) -> None:
    told = []
    for one in (shop, own_engine):
        with pytest.raises(BadRequest) as refused:
            one.recommend(filters="colour = red")
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_an_event_is_kept_once_and_counts_for_the_next_request(shop: Engine, data: DataSet) -> None:
    user, item = f"new to {type(shop).__name__}", data.item_ids[7]
    kind = shop_kind(data)
    assert shop.record(user, item, kind, 1_700_000_000.5)
    assert not shop.record(user, item, kind, 1_700_000_000.5)
    assert shop.record(user, item, kind, 1_700_000_001, event_id=f"{user} 1", quantity=2, price=3.5)
    assert not shop.record(user, item, kind, 1_700_000_002, event_id=f"{user} 1")
    assert item not in ids(shop.recommend(user_id=user, k=len(data.item_ids), filter_seen=True))


def test_of_several_events_the_new_ones_are_counted(shop: Engine, data: DataSet) -> None:
    user = f"several of {type(shop).__name__}"
    at = datetime(2025, 5, 1, 8)
    events: list[dict[str, object]] = [
        {"user_id": user, "item_id": item, "event": "view", "timestamp": at} for item in data.item_ids[:3]
    ]
    assert shop.record_many(events) == 3
    assert shop.record_many(iter([*events, {"user_id": user, "item_id": "another", "event": "view"}])) == 1
    assert shop.record_many([]) == 0


def test_events_without_a_time_or_an_id_are_each_kept(shop: Engine, data: DataSet) -> None:
    event = {"user_id": f"twice at {type(shop).__name__}", "item_id": data.item_ids[0], "event": "view"}
    assert shop.record_many([event]) + shop.record_many([event]) == 2


def test_a_shopper_is_forgotten(shop: Engine, data: DataSet) -> None:
    user = f"gone from/{type(shop).__name__}"
    shop.record(user, data.item_ids[0], shop_kind(data), 1_700_000_000)
    found = shop.forget(user)
    assert isinstance(found, Forgotten)
    assert any("1 recorded events" in line for line in found.removed)
    assert lasting(shop.recommend(user_id=user)) == lasting(shop.recommend(user_id="nobody"))


def test_titles_are_those_of_known_items(shop: Engine, own_engine: Engine, data: DataSet) -> None:
    wanted = [data.item_ids[5], "no such item/?", data.item_ids[1]]
    assert shop.titles(wanted) == own_engine.titles(wanted)
    assert len(shop.titles(wanted)) == 2
    assert shop.titles([]) == []
    assert len(shop.titles(data.item_ids)) == len(data.item_ids)  # more than one call may ask for


def shop_kind(data: DataSet) -> str:
    """The kind of event by which items are taken."""
    assert data.events is not None
    return next(kind for kind in data.events.kinds if "purchase" in kind)
