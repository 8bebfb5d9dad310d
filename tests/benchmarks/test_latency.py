"""Latency: what is timed, what is not, and what is drawn to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.latency import Effort, load_lines, rate_line, stage_lines, workload
from benchmarks.sweep import parse_sweep, pinned, turned
from retrieval.errors import BadConfig
from retrieval.runtime import available_cores
from serving.engine import Engine
from serving.requests import Answer


class FakeVersion:
    """Five items."""

    size = 5
    items = pa.table({"title": [f"Brand {row} Long Enough Title" for row in range(5)]})

    def values_at(self, name: str, rows: np.ndarray) -> pa.ChunkedArray:
        return self.items[name].take(rows)

    def ids_of(self, rows: np.ndarray) -> list[str]:
        return [f"item-{row}" for row in rows]


@dataclass
class FakeEngine:
    """Writes down what it is asked."""

    users: tuple[str, ...] = ("a", "b")
    queries: tuple[str, ...] = ("red tent",)
    asked: list[tuple[str, object]] = field(default_factory=list)
    ks: list[int] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)

    @property
    def stages(self) -> SimpleNamespace:
        return SimpleNamespace(version=FakeVersion())

    @property
    def shoppers(self) -> SimpleNamespace:
        return SimpleNamespace(user_ids=pa.chunked_array([pa.array(self.users, pa.string())]), query_texts=self.queries)

    def recommend(
        self, *, user_id: str, k: int, filters: object, rerank: bool = True, deadline: float | None = None
    ) -> Answer:
        self.deadlines.append(deadline)
        return self.answer("recommend", (user_id, rerank), k)

    def search(
        self, text: str, *, k: int, filters: object, rerank: bool = True, deadline: float | None = None
    ) -> Answer:
        self.deadlines.append(deadline)
        return self.answer("search", text, k)

    def similar(self, item_id: str, *, k: int, filters: object) -> Answer:
        return self.answer("similar", item_id, k)

    def complete_cart(self, items: list[str], *, k: int, filters: object, deadline: float | None = None) -> Answer:
        self.deadlines.append(deadline)
        return self.answer("cart", tuple(items), k)

    def answer(self, kind: str, about: object, k: int) -> Answer:
        self.asked.append((kind, about))
        self.ks.append(k)
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


def test_every_stage_the_whole_and_what_is_left_are_lines_of_their_own_without_the_warm_up() -> None:
    fake = FakeEngine()
    lines = list(stage_lines({"similar": calls_of(fake)["similar"]}, Effort(), {"k": "10"}))
    assert [line.labels["stage"] for line in lines] == ["end to end", "search", "other"]
    assert all(line.labels["k"] == "10" and line.labels["call"] == "similar" for line in lines)
    assert len(fake.asked) == 13
    assert lines[1].samples == [float(n) for n in range(6, 14)]


def test_how_many_answers_a_deadline_cut_stands_beside_their_milliseconds() -> None:
    answers = cycle([Answer((), "release"), Answer((), "release", degraded=("rerank, full model: 0 of 30 places",))])
    whole, other = stage_lines({"search": [lambda: next(answers)] * 8}, Effort(at_least=8, seconds=0.0), {})
    assert (whole.summary["degraded"], "degraded" in other.summary) == (0.5, False)
    (whole, _) = stage_lines({"search": [lambda: Answer((), "release")] * 8}, Effort(at_least=8, seconds=0.0), {})
    assert "degraded" not in whole.summary


def test_load_is_measured_for_every_number_of_callers_and_every_rate() -> None:
    fake = FakeEngine()
    effort = Effort(seconds=0.0, trials=2)
    rng = np.random.default_rng(0)
    lines = list(load_lines("similar", calls_of(fake, 40)["similar"], effort, workers=2, bound=50.0, rng=rng))
    assert [line.labels["callers"] for line in lines if line.labels.get("load") == "closed"] == [*"1248", "16"]
    assert [line.labels["share"] for line in lines if line.labels.get("load") == "open"] == [
        "0.25",
        "0.5",
        "0.75",
        "0.9",
    ]
    assert lines[-1].measured == "highest rate"


def test_the_highest_rate_says_which_percentile_it_could_keep() -> None:
    def measure(rate: float) -> list[float]:
        return [1.0 if rate < 60 else 200.0] * (1_500 if rate < 60 else 300)

    line = rate_line(measure, "search", 50.0, 10.0, Effort(trials=12))
    assert 55 < (line.summary["rate"] or 0) < 60
    assert line.labels["percentile"] == "p99"
    few = rate_line(lambda rate: [1.0] * 150, "search", 50.0, 10.0, Effort(trials=2))
    assert few.labels["percentile"] == "p90"


def test_a_sweep_turns_what_it_names_and_refuses_the_rest() -> None:
    assert [knobs.depth for knobs in parse_sweep("depth=10,30").knobs()] == [10, 30]
    assert [knobs.filters for knobs in parse_sweep("filters=none,price<20").knobs()] == [None, [("price", "<", 20)]]
    fake = FakeEngine()
    calls = workload(cast(Engine, fake), 3, np.random.default_rng(0), turned({"k": "7", "rerank": "no"}))
    calls["search"][0]()
    calls["recommend"][0]()
    assert fake.ks == [7, 7]
    assert fake.asked[-1] == ("recommend", (calls["recommend"][0].keywords["user_id"], False))
    hurried = FakeEngine()
    (knobs,) = parse_sweep("deadline=25").knobs()
    calls = workload(cast(Engine, hurried), 1, np.random.default_rng(0), knobs)
    for kind in ("recommend", "search", "cart", "recommend, not reranked"):
        calls[kind][0]()
    assert hurried.deadlines == [25.0, 25.0, 25.0, None]
    assert [knobs.deadline for knobs in parse_sweep("deadline=none,7.5").knobs()] == [None, 7.5]
    for text in (
        "deadline=0",
        "deadline=soon",
        "deadline=inf",
        "deadline=nan",
        "k",
        "k=",
        "colour=red",
        "k=0",
        "k=ten",
        "rerank=maybe",
        "precision=int3",
        "filters=price",
    ):
        with pytest.raises(BadConfig):
            parse_sweep(text)


def test_a_process_is_pinned_only_inside() -> None:
    before = available_cores()
    with pinned(1):
        assert available_cores() == 1
    assert available_cores() == before
