"""Latency: what is timed, what is not, and what is drawn to be asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.latency.by_stage import REPEATED, Limits, load_lines, rate_line, stage_lines
from benchmarks.latency.load import Call
from benchmarks.latency.run import compared_engines
from benchmarks.latency.workload import CANARY_QUERIES, PAST_QUERIES, TITLE_WORDS, CallPool, Workload, load_kind
from benchmarks.result_lines import Line
from benchmarks.sweep import EngineOptions, open_engine, parse_options, parse_sweep, use_cores
from ranking.models.cross_encoder import ShortlistScorer
from retrieval.encoders.runtime import available_cores
from retrieval.errors import BadConfig
from retrieval.topk import Scores
from serving.engine import Engine
from serving.request import Answer


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
    def state(self) -> SimpleNamespace:
        users = pa.chunked_array([pa.array(self.users, pa.string())])
        store = SimpleNamespace(user_ids=users, query_texts=self.queries)
        return SimpleNamespace(version=FakeVersion(), user_store=store, query_vectors=SimpleNamespace(forget=list))

    def recommend(
        self, *, user_id: str, k: int, filters: object, rerank: bool = True, deadline_ms: float | None = None
    ) -> Answer:
        self.deadlines.append(deadline_ms)
        return self.answer("recommend", (user_id, rerank), k)

    def search(
        self, text: str, *, k: int, filters: object, rerank: bool = True, deadline_ms: float | None = None
    ) -> Answer:
        self.deadlines.append(deadline_ms)
        return self.answer("search", text, k)

    def similar(self, item_id: str, *, k: int, filters: object) -> Answer:
        return self.answer("similar", item_id, k)

    def complete_cart(self, items: list[str], *, k: int, filters: object, deadline_ms: float | None = None) -> Answer:
        self.deadlines.append(deadline_ms)
        return self.answer("cart", tuple(items), k)

    def answer(self, kind: str, about: object, k: int) -> Answer:
        self.asked.append((kind, about))
        self.ks.append(k)
        return Answer((), "release", timings_ms={"search": float(len(self.asked))})


def calls_of(fake: FakeEngine, n: int = 8, options: EngineOptions | None = None) -> dict[str, list[Call]]:
    workload = Workload.sample(cast(Engine, fake), n, np.random.default_rng(0))
    return workload.calls(cast(Engine, fake), options or EngineOptions())


def pool_of(calls: Sequence[Call]) -> CallPool:
    """For an engine that remembers nothing."""
    return CallPool(calls, lambda: None)


def numbered(made: list[int], n: int) -> list[Call]:
    """Calls that write down their numbers."""
    return [lambda at=at: made.append(at) or Answer((), "release") for at in range(n)]  # type: ignore[misc]


def test_every_kind_of_call_is_drawn_from_what_the_release_holds() -> None:
    fake = FakeEngine()
    for some in calls_of(fake).values():
        for call in some:
            call()
    asked = {kind: {about for name, about in fake.asked if name == kind} for kind, _ in fake.asked}
    assert asked["recommend"] == {("a", True), ("b", True), ("a", False), ("b", False)}
    assert asked["search"] == {"red tent"}
    assert asked["similar"] == {f"item-{row}" for row in range(5)}
    assert all(len(cart) == 2 for cart in asked["cart"])


def test_a_release_without_shoppers_recommends_to_nobody_and_is_searched_by_words_of_titles_at_random() -> None:
    fake = FakeEngine(users=(), queries=())
    calls = calls_of(fake)
    assert set(calls) == {"search", "similar", "cart"}
    for call in calls["search"]:
        call()
    asked = [about for _, about in fake.asked]
    assert set(asked) == {f"Brand {row} Long Enough" for row in range(5)}
    assert asked[:5] != sorted(asked[:5], key=str)


def test_canaries_are_searched_for_where_there_are_no_past_queries_and_it_is_told_what_the_queries_are() -> None:
    def sample(canaries: Sequence[str], *queries: str) -> Workload:
        return Workload.sample(cast(Engine, FakeEngine(queries=queries)), 8, np.random.default_rng(0), canaries)

    canaries = ["oak desk", "red tent", "oak desk"]
    past, drawn = sample(canaries, "blue"), sample(canaries)
    assert (past.query_source, list(past.queries)) == (PAST_QUERIES, ["blue"])
    assert (drawn.query_source, sorted(drawn.queries)) == (CANARY_QUERIES, ["oak desk", "red tent"])
    assert sample([]).query_source == TITLE_WORDS
    assert drawn.first_requests() == {"recommend": {"user_id": drawn.users[0]}, "search": {"query": drawn.queries[0]}}


def test_every_stage_the_whole_and_what_is_left_are_lines_of_their_own() -> None:
    fake = FakeEngine()
    lines = list(stage_lines({"similar": pool_of(calls_of(fake)["similar"])}, Limits(calls=8), {"k": "10"}))
    assert [line.labels["stage"] for line in lines] == ["end to end", "search", "other"]
    assert all(line.labels["k"] == "10" and line.labels["call"] == "similar" for line in lines)
    assert len(fake.asked) == 13
    assert lines[1].samples == [float(n) for n in range(6, 14)]


def test_no_point_asks_what_another_or_the_warm_up_asked_while_there_is_something_else() -> None:
    made: list[int] = []
    pool = pool_of(numbered(made, 40))
    (whole, _) = stage_lines({"search": pool}, Limits(calls=15), {})
    assert made == list(range(20))
    assert REPEATED not in whole.summary
    (whole, _) = stage_lines({"search": pool}, Limits(calls=30), {})
    assert made[20:] == [*range(20, 40), *range(15)]
    assert whole.summary[REPEATED] == 0.5


def test_what_is_asked_again_was_forgotten() -> None:
    told: list[str] = []

    def call(name: str) -> Call:
        return lambda: told.append(name) or Answer((), "release")  # type: ignore[func-returns-value]

    pool = CallPool([call("a"), call("b")], lambda: told.append("-"))
    for n in (1, 4):
        for ask in pool.take(n):
            ask()
    assert [part for part in "".join(told).split("-") if part] == ["a", "b", "ab", "a"]
    told.clear()
    for ask in CallPool([call("a"), call("b")], lambda: told.append("-"), always=True).take(3):
        ask()
    assert [part for part in "".join(told).split("-") if part] == ["a", "b", "a"]


def test_how_many_answers_a_deadline_cut_stands_beside_their_milliseconds() -> None:
    answers = cycle([Answer((), "release"), Answer((), "release", degraded=("rerank, full model: 0 of 30 places",))])
    whole, other = stage_lines({"search": pool_of([lambda: next(answers)] * 99)}, Limits(at_least=8, seconds=0.0), {})
    assert (whole.summary["degraded"], "degraded" in other.summary) == (0.5, False)
    whole_pool = pool_of([lambda: Answer((), "release")] * 99)
    (whole, _) = stage_lines({"search": whole_pool}, Limits(at_least=8, seconds=0.0), {})
    assert "degraded" not in whole.summary


def test_load_is_measured_for_every_number_of_callers_and_every_rate() -> None:
    fake = FakeEngine()
    limits = Limits(seconds=0.0, trials=2)
    rng = np.random.default_rng(0)
    pool = pool_of(calls_of(fake, 40)["similar"])
    lines = list(load_lines("similar", pool, limits, workers=2, bound=50.0, rng=rng))
    assert [line.labels["callers"] for line in lines if line.labels.get("load") == "closed"] == [*"1248", "16"]
    assert [line.labels["share"] for line in lines if line.labels.get("load") == "open"] == [
        "0.25",
        "0.5",
        "0.75",
        "0.9",
    ]
    assert lines[-1].measured == "highest rate"
    assert lines[-1].labels["percentile"] == "p99"
    assert 0 < (lines[-1].summary[REPEATED] or 0) <= 1


def test_the_highest_rate_is_of_p99_or_says_that_it_was_not_measurable() -> None:
    tried: list[float] = []

    def line(limit: float, answered: float) -> Line:
        tried.clear()

        def measure(rate: float) -> list[float]:
            tried.append(rate)
            return [1.0 if rate < limit else 200.0] * 1_000

        return rate_line(measure, "search", 50.0, answered, Limits(trials=12, longest=50.0))

    found = line(60.0, answered=50.0)
    assert 55 < (found.summary["rate"] or 0) < 60
    assert found.labels["percentile"] == "p99"
    slow = line(3.0, answered=4.0)
    assert (slow.summary, tried) == ({"rate": None}, [])
    assert slow.labels["percentile"] == "p99, under 20 a second not measurable in 50 s"
    failed = line(3.0, answered=70.0)
    assert (failed.summary["rate"], failed.labels) == (None, slow.labels)
    assert tried == [35.0, 20.0]


def test_load_and_sweeps_are_about_the_call_that_goes_through_most_stages_or_the_one_that_is_asked_for() -> None:
    kinds = ["recommend", "recommend, not reranked", "search", "similar", "cart"]
    both = frozenset({"recommend", "search"})
    assert load_kind(None, kinds, both) == "search"
    assert load_kind(None, kinds, frozenset({"recommend"})) == "recommend"
    assert load_kind(None, kinds, frozenset()) == "search"
    assert load_kind("cart", kinds, both) == "cart"
    with pytest.raises(BadConfig, match="search; similar"):
        load_kind("recommend", ["search", "similar"], both)


def test_a_sweep_turns_what_it_names_and_refuses_the_rest() -> None:
    assert [options.depth for options in parse_sweep("depth=10,30").options()] == [10, 30]
    assert [options.filters for options in parse_sweep("filters=none,price<20").options()] == [
        None,
        [[("price", "<", 20)]],
    ]
    fake = FakeEngine()
    calls = calls_of(fake, 3, parse_options({"k": "7", "rerank": "no"}))
    calls["search"][0]()
    calls["recommend"][0]()
    assert fake.ks == [7, 7]
    assert fake.asked[-1] == ("recommend", (calls["recommend"][0].keywords["user_id"], False))
    hurried = FakeEngine()
    (options,) = parse_sweep("deadline_ms=25").options()
    calls = calls_of(hurried, 1, options)
    for kind in ("recommend", "search", "cart", "recommend, not reranked"):
        calls[kind][0]()
    assert hurried.deadlines == [25.0, 25.0, 25.0, None]
    assert [options.deadline_ms for options in parse_sweep("deadline_ms=none,7.5").options()] == [None, 7.5]
    for text in (
        "deadline_ms=0",
        "deadline_ms=soon",
        "deadline_ms=inf",
        "deadline_ms=nan",
        "k",
        "k=",
        "colour=red",
        "k=0",
        "k=ten",
        "rerank=maybe",
        "precision=int3",
        "runtime=jax",
        "shortlist=0",
        "filters=price",
    ):
        with pytest.raises(BadConfig):
            parse_sweep(text)


def test_a_process_is_limited_to_cores_only_inside() -> None:
    before = available_cores()
    with use_cores(1):
        assert available_cores() == 1
    assert available_cores() == before


def test_a_sweep_opens_the_engine_that_it_names(bundle: Path) -> None:
    (options,) = parse_sweep("shortlist=15").options()
    answer = open_engine(bundle, options, "cpu").search("red", k=5, rerank=False)
    assert len(open_engine(bundle, options, "cpu").search("red", k=20, rerank=False).items) == 20
    assert open_engine(bundle, options, "cpu").state.shortlist == 15 > len(answer.items)
    (options,) = parse_sweep("runtime=torch").options()
    steps = open_engine(bundle, options, "cpu").state.steps
    assert {step.scorer.placement.runtime for step in steps} == {"torch"}


@dataclass(frozen=True)
class Slower:
    """A scorer of shortlists that is 10 ms late."""

    scorer: ShortlistScorer

    def score_shortlists(self, *asked: Any, **options: Any) -> Scores:
        time.sleep(0.010)
        return self.scorer.score_shortlists(*asked, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(self.scorer, name)


@pytest.mark.slow
def test_ten_milliseconds_planted_in_the_reranker_of_an_engine_are_named_by_its_stage(bundle: Path) -> None:
    opened = replace(open_engine(bundle, EngineOptions(), "cpu").state, reranks=frozenset({"recommend", "search"}))
    steps = tuple(replace(step, scorer=cast(ShortlistScorer, Slower(step.scorer))) for step in opened.steps)
    slower = Engine(replace(opened, steps=steps))
    found = compared_engines(Engine(opened), slower, seed=0, seconds=3.0)
    for kind in ("recommend", "search"):
        stages = {one.labels["stage"]: one for one in found if one.labels["call"] == kind}
        assert stages["rank"].verdict == stages["end to end"].verdict == "worse"
        del stages["end to end"]
        assert max(stages, key=lambda name: stages[name].after - stages[name].before) == "rank"
