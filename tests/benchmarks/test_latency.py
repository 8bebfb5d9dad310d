"""Latency: what is timed, what is not, and what is drawn to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.latency import machine, time_calls, workload
from serving.engine import Engine
from serving.requests import Answer


class FakeVersion:
    """Five items."""

    size = 5
    items = pa.table({"title": [f"Brand {row} Long Enough Title" for row in range(5)]})

    def ids_of(self, rows: np.ndarray) -> list[str]:
        return [f"item-{row}" for row in rows]


@dataclass
class FakeEngine:
    """Writes down what it is asked."""

    users: tuple[str, ...] = ("a", "b")
    queries: tuple[str, ...] = ("red tent",)
    asked: list[tuple[str, object]] = field(default_factory=list)

    @property
    def stages(self) -> SimpleNamespace:
        return SimpleNamespace(version=FakeVersion())

    @property
    def shoppers(self) -> SimpleNamespace:
        return SimpleNamespace(user_ids=pa.chunked_array([pa.array(self.users, pa.string())]), query_texts=self.queries)

    def recommend(self, *, user_id: str, rerank: bool = True) -> Answer:
        return self.answer("recommend", (user_id, rerank))

    def search(self, text: str) -> Answer:
        return self.answer("search", text)

    def similar(self, item_id: str) -> Answer:
        return self.answer("similar", item_id)

    def complete_cart(self, items: list[str]) -> Answer:
        return self.answer("cart", tuple(items))

    def answer(self, kind: str, about: object) -> Answer:
        self.asked.append((kind, about))
        return Answer((), "release", milliseconds={"search": float(len(self.asked))})


def calls_of(fake: FakeEngine, n: int = 8):
    return workload(cast(Engine, fake), n, np.random.default_rng(0))


def test_every_kind_of_call_is_drawn_from_what_the_release_holds() -> None:
    fake = FakeEngine()
    for some in calls_of(fake).values():
        assert len(some) == 8
        for call in some:
            call()
    asked = {kind: {about for name, about in fake.asked if name == kind} for kind, _ in fake.asked}
    assert asked["recommend"] == {("a", True), ("b", True), ("a", False), ("b", False)}
    assert asked["search"] == {"red tent"}
    assert asked["similar"] <= {f"item-{row}" for row in range(5)}
    assert all(len(cart) == 2 for cart in asked["cart"])


def test_a_release_without_shoppers_is_searched_by_titles_and_recommends_to_nobody() -> None:
    fake = FakeEngine(users=(), queries=())
    calls = calls_of(fake)
    assert set(calls) == {"search", "similar", "cart"}
    calls["search"][0]()
    assert fake.asked == [("search", "Brand 0 Long Enough")]


def test_warm_up_calls_are_made_but_not_counted() -> None:
    fake = FakeEngine()
    ticks = count()
    spans = iter([0.0, 0.001, 0.0, 0.003, 0.0, 0.002])
    timing = time_calls(calls_of(fake)["similar"][:3], warm_up=2, clock=lambda: next(ticks) * 10 + next(spans))
    assert len(fake.asked) == 5
    assert timing.n == 3
    assert timing.p50 == pytest.approx(10_002)
    assert timing.p95 <= timing.p99 <= 10_003
    assert timing.stages == {"search": 4.0}


def test_nothing_to_time_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(ValueError, match="no calls"):
        time_calls([])


def test_the_machine_and_the_commit_are_written_beside_the_figures() -> None:
    assert {"processor", "cores", "system", "python", "commit", "openvino"} <= set(machine())
    assert all(machine().values())
