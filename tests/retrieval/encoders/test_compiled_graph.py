"""A compiled graph in the process that made it and in forked children."""

from __future__ import annotations

import gc

import numpy as np
import openvino
import pytest

from forking import succeeds_in_child
from retrieval.encoders import runtime
from retrieval.encoders.batching import run_batched
from retrieval.encoders.runtime import TOKEN_INPUTS, OpenVinoModel, convert, token_example
from token_sums import Sums, by_hand, texts


@pytest.fixture(autouse=True)
def two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one core nothing would run on threads."""
    monkeypatch.setattr(runtime, "available_cores", lambda: 2)


@pytest.fixture(scope="module")
def graph() -> openvino.Model:
    return convert(Sums(), TOKEN_INPUTS, token_example())


@pytest.mark.parametrize("used", [True, False])
def test_a_child_and_its_own_child_compute_what_the_parent_does(graph: openvino.Model, used: bool) -> None:
    model, encoded = OpenVinoModel.compile(graph), texts([1, 8, 9, 40, 3, 17])

    def computes() -> None:
        assert run_batched(encoded, model, budget_tokens=40).tolist() == by_hand(encoded)

    def computes_and_forks() -> None:
        computes()
        assert succeeds_in_child(computes)

    if used:
        computes()
    assert succeeds_in_child(computes_and_forks)
    computes()


def test_a_child_is_not_given_the_threads_of_a_graph_that_its_parent_released(graph: openvino.Model) -> None:
    encoded = texts([1, 8, 9])
    for _ in range(2):
        run_batched(encoded, OpenVinoModel.compile(graph))
        gc.collect()
    model = OpenVinoModel.compile(graph)
    assert succeeds_in_child(lambda: run_batched(encoded, model))
    assert succeeds_in_child(lambda: run_batched(encoded, OpenVinoModel.compile(graph)))


def test_a_child_may_release_the_graphs_of_its_parent(graph: openvino.Model) -> None:
    models, encoded = [OpenVinoModel.compile(graph) for _ in range(2)], texts([1, 8, 9])
    np.testing.assert_array_equal(run_batched(encoded, models[0]), run_batched(encoded, models[1]))

    def release() -> None:
        models.pop()
        gc.collect()
        run_batched(encoded, models[0])
        models.pop()
        gc.collect()

    assert succeeds_in_child(release)
