"""What the server refuses: too much at once, in a request and of requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine_changes import changed
from retrieval.errors import BadConfig
from serving.engine import Engine
from serving.http.admission import Admission
from serving.http.answers import Answering
from serving.http.app import make_app
from serving.http.options import Limits
from serving.http.problems import Problem
from serving.request import Request

LIMITS = Limits(body_bytes=2_000, k=20, history=3, filters=2, batch=2, events=2, items=2, running=1, waiting=1)


@pytest.fixture(scope="module")
def limited(engine: Engine) -> TestClient:
    return TestClient(make_app(engine, limits=LIMITS), base_url="http://127.0.0.1", raise_server_exceptions=False)


EVENT = {"user_id": "ann", "item_id": "mug", "event": "view"}
TOO_MUCH: dict[str, tuple[str, dict[str, Any]]] = {
    "k": ("recommend", {"k": 21}),
    "history": ("recommend", {"history": ["a", "b", "c", "d"]}),
    "cart": ("cart", {"items": ["a", "b", "c", "d"]}),
    "filters": ("search", {"query": "mug", "filters": [["price", "<", 3]] * 3}),
    "filters within filters": ("search", {"query": "mug", "filters": [[["price", "<", 3]] * 3]}),
    "filters as text": ("search", {"query": "mug", "filters": "(price < 3 or price > 9) and price > 1"}),
    "batch": ("batch", {"requests": [{"task": "recommend"}] * 3}),
    "k of a batch": ("batch", {"requests": [{"task": "recommend", "k": 21}]}),
    "k of why not": ("why-not", {"request": {"task": "recommend", "k": 21}, "item_id": "a"}),
    "k of explain": ("explain", {"request": {"task": "recommend", "k": 21}}),
    "events": ("events", {"events": [EVENT] * 3}),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_at_once_is_refused_with_the_limit(limited: TestClient, what: str) -> None:
    path, body = TOO_MUCH[what]
    found = limited.post(f"/v1/{path}", json=body)
    assert found.status_code == 400
    assert any(character.isdigit() for character in found.json()["detail"])


def test_a_cursor_leads_to_the_most_items_and_no_further(limited: TestClient) -> None:
    first = limited.post("/v1/recommend", json={"k": 10}).json()
    second = limited.post("/v1/recommend", json={"k": 10, "cursor": first["next_cursor"]}).json()
    assert len(second["items"]) == 10
    assert second["next_cursor"] is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_whether_its_length_is_told_or_not(limited: TestClient, chunked: bool) -> None:
    body = json.dumps({"query": "x" * 3_000}).encode()

    def parts() -> Iterator[bytes]:
        yield body[:1_000]
        yield body[1_000:]

    found = limited.post(
        "/v1/search", content=parts() if chunked else body, headers={"Content-Type": "application/json"}
    )
    assert found.status_code == 413
    assert "2,000 bytes" in found.json()["detail"]


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 400])
def test_a_length_that_is_none_is_refused(limited: TestClient, length: str) -> None:
    found = limited.post("/v1/search", content=b"{}", headers={"Content-Length": length})
    assert found.status_code == 413


def test_a_deadline_is_at_most_what_the_server_has(engine: Engine) -> None:
    answering = Answering(engine, replace(LIMITS, timeout_s=2.0))
    assert answering.checked(Request(deadline_ms=1e9)).deadline_ms == 2_000
    assert answering.checked(Request(deadline_ms=30.0)).deadline_ms == 30
    assert answering.checked(Request()).deadline_ms is None


class Held:
    """A call that ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go, self.calls = threading.Event(), threading.Event(), 0

    def __call__(self) -> str:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(30)
        return "done"


def holding(engine: Engine, held: Held) -> Engine:
    """An engine whose answers wait."""
    engine = changed(engine)
    answer = engine.answer
    engine.answer = lambda *given, **named: held() and answer(*given, **named)  # type: ignore[method-assign]
    return engine


def test_a_full_server_says_when_to_come_again_and_answers_what_it_accepted(engine: Engine) -> None:
    held = Held()
    app = make_app(holding(engine, held), limits=LIMITS)
    with TestClient(app, base_url="http://127.0.0.1") as http, ThreadPoolExecutor(2) as threads:
        ask: Callable[[], Any] = lambda: http.post("/v1/recommend", json={})  # noqa: E731
        accepted = [threads.submit(ask) for _ in range(2)]
        assert held.begun.wait(30)
        while app.state.admission.inside < 2:
            threading.Event().wait(0.01)
        refused = ask()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert http.get("/healthz").status_code == 200  # whoever looks after the server is answered
        held.go.set()
        assert [found.result().status_code for found in accepted] == [200, 200]
        assert ask().status_code == 200


def test_an_answer_that_takes_too_long_is_504(engine: Engine) -> None:
    held = Held()
    app = make_app(holding(engine, held), limits=replace(LIMITS, timeout_s=0.2))
    with TestClient(app, base_url="http://127.0.0.1") as http:
        found = http.post("/v1/recommend", json={})
        assert found.status_code == 504
        assert "0.2 s" in found.json()["detail"]
        held.go.set()


def test_a_call_that_nobody_waits_for_any_more_is_not_begun() -> None:
    async def ask() -> None:
        admission = Admission(replace(LIMITS, timeout_s=0.1))
        running, waiting = Held(), Held()
        found = await asyncio.gather(admission.run(running), admission.run(waiting), return_exceptions=True)
        assert [isinstance(one, Problem) and one.status.value for one in found] == [504, 504]
        running.go.set()
        waiting.go.set()
        while admission.inside:
            await asyncio.sleep(0.01)
        assert (running.calls, waiting.calls) == (1, 0)
        assert await admission.run(lambda: "there is room again") == "there is room again"
        admission.close()

    asyncio.run(ask())


@pytest.mark.parametrize("name", [*vars(Limits())])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match=f"{name} is 0"):
        Limits(**{name: 0})
