"""Callers at the same time share batches: who shares with whom, in which order, and what a full queue does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import ids
from retrieval.data.dataset import DataSet
from serving.answering.in_time import shared_batches
from serving.answering.in_time.otherwise import QueueFull
from serving.answering.in_time.shared_batches import Callers, SharedBatches
from serving.answering.in_time.shared_models import SharedScorer, sharing
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE


class Model:
    """Doubles numbers and notes its batches; the first of them waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running, self.go = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        if len(self.batches) == 1:
            self.running.set()
            assert self.go.wait(30)
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def ask(model: Model) -> Callable[..., list[Future[int]]]:
    """The results of some numbers: the first runs alone, the others come meanwhile, in their order."""

    def asked(sizes: dict[int, int], budget: int = 100) -> list[Future[int]]:
        callers, found = Callers(), list[Future[int]]()
        batches = SharedBatches(model, budget, callers)
        with ThreadPoolExecutor(len(sizes)) as pool, ExitStack() as inside:
            for _ in sizes:
                inside.enter_context(callers.one_more())
            for at, (number, size) in enumerate(sizes.items()):
                found.append(pool.submit(batches, number, size))
                while at and len(batches._waiting) < at and not found[-1].done():
                    time.sleep(0.001)
                assert model.running.wait(30)
            model.go.set()
        return found

    return asked


def test_who_comes_while_a_batch_runs_shares_the_next(ask: Callable[..., list[Future[int]]], model: Model) -> None:
    found = ask(dict.fromkeys([1, 2, 3, 4], 1))
    assert [one.result() for one in found] == [2, 4, 6, 8]
    assert model.batches == [[1], [2, 3, 4]]


def test_a_batch_holds_what_fits_the_others_come_after_it(ask: Callable[..., list[Future[int]]], model: Model) -> None:
    found = ask({1: 1, 2: 4, 3: 5, 4: 6, 5: 99, 6: 1}, budget=10)
    assert [one.result() for one in found] == [2, 4, 6, 8, 10, 12]
    assert model.batches == [[1], [2, 3], [4], [5], [6]]


def test_an_error_is_that_of_all_in_the_batch_and_of_no_other(
    ask: Callable[..., list[Future[int]]], model: Model
) -> None:
    found = ask({1: 1, 13: 5, 3: 5, 4: 6}, budget=10)
    assert [type(one.exception()) for one in found] == [type(None), ValueError, ValueError, type(None)]
    assert found[3].result() == 8


def test_a_full_queue_turns_callers_away(
    ask: Callable[..., list[Future[int]]], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_batches, "MOST_WAITING", 2)
    found = ask(dict.fromkeys([1, 2, 3, 4], 1))
    assert [one.result() for one in found[:3]] == [2, 4, 6]
    assert isinstance(found[3].exception(), QueueFull)


def test_a_single_caller_waits_for_nobody(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.go.set()
    monkeypatch.setattr(shared_batches, "WAIT", 1e6)
    callers = Callers()
    with callers.one_more():
        assert SharedBatches(model, 10, callers)(4, 1) == 8
        with callers.one_more(), ThreadPoolExecutor(2) as pool:
            batches = SharedBatches(model, 10, callers)
            assert sorted(pool.map(batches, [1, 2], [1, 1])) == [2, 4]  # both are there, so nobody else can come
    assert callers.inside == 0


def test_an_idle_model_waits_a_moment_for_company(model: Model) -> None:
    model.go.set()
    callers = Callers()
    with callers.one_more(), callers.one_more():
        assert SharedBatches(model, 10, callers)(4, 1) == 8
    assert model.batches == [[4]]


@pytest.fixture(scope="module")
def shared(bundle_path: Path) -> Engine:
    """An engine whose callers share batches, with every gate open."""
    callers = Callers()
    state = Engine.open(bundle_path, device="cpu", share_batches=False).state
    return Engine(sharing(replace(state, reranks=EVERY_GATE), callers), callers=callers)


def test_answers_are_those_of_each_alone(shared: Engine, reranking: Engine, data: DataSet) -> None:
    queries, users = ["red mug", "lamp", "garden chair", "steel saw"] * 4, data.user_ids[:16]

    def ask(engine: Engine, at: int) -> tuple[list[str], list[float]]:
        found = engine.search(queries[at], user_id=users[at])
        assert found.degraded == ()
        return ids(found), [hit.score for hit in found.items]

    shared.state.forget()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda at: ask(shared, at), range(16)))
    for at, (items, scores) in enumerate(together):
        wanted, exact = ask(reranking, at)
        assert items == wanted
        np.testing.assert_allclose(scores, exact, atol=1e-4)


def test_a_full_queue_answers_without_reranking_and_says_so(
    shared: Engine, reranking: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_batches, "MOST_WAITING", 0)
    shared.state.forget()
    with shared._callers.one_more():
        found = shared.search("red mug")
    assert found.degraded == ("rerank: queue full",)
    assert ids(found) == ids(reranking.search("red mug", rerank=False))
    assert shared.search("red mug").reranked == ("cross-encoder",)


def test_what_is_shared_already_stays_so(shared: Engine) -> None:
    again = sharing(shared.state, Callers())
    assert again.query_vectors is shared.state.query_vectors
    assert isinstance(again.steps[0].scorer, SharedScorer)
    assert again.steps[0].scorer is shared.state.steps[0].scorer
    assert sharing(replace(shared.state, steps=()), Callers()).steps == ()
