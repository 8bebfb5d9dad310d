"""Past requests in batches: a pair is scored once, whichever of two lists it stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ranking.models.cross_encoder import ShortlistScorer
from ranking.models.placement import Placement
from retrieval.topk import Hits
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import Step
from serving.evaluation import batch_requests
from serving.evaluation.batch_requests import KnownLogits


@dataclass
class CountingModel:
    """Scores a pair by its request's text and its row, and counts the pairs that it was given."""

    asked: int = 0

    def __call__(
        self,
        state: ReleaseState,
        step: Step,
        texts: Sequence[str],
        hits: Hits,
        *,
        done: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        rows = hits.rows[:, : step.depth]
        self.asked += int((rows >= 0).sum())
        values = np.array([len(text) for text in texts])[:, None] * 1000 + rows + 10_000 * int(step.model == "other")
        return np.where(rows >= 0, values, np.nan).astype(np.float32)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> CountingModel:
    """What stands in for the models of all steps."""
    model = CountingModel()
    monkeypatch.setattr(batch_requests, "step_logits", model)
    return model


@pytest.fixture
def logits() -> KnownLogits:
    """Of a release of a hundred items; nothing is known yet."""
    return KnownLogits(cast("ReleaseState", SimpleNamespace(version=SimpleNamespace(size=100))))


def step_of(depth: int, model: str = "one", kind: Literal["fp32", "int8"] = "fp32") -> Step:
    scorer = SimpleNamespace(fingerprint=model, placement=Placement("cpu", "openvino", kind))
    return Step(cast("ShortlistScorer", scorer), depth, model=model)


def hits_of(rows: list[list[int]]) -> Hits:
    table = np.array(rows)
    return Hits(table, -np.arange(table.shape[1], dtype=np.float32)[None].repeat(len(table), 0))


def test_a_pair_of_a_second_list_is_not_scored_again(model: CountingModel, logits: KnownLogits) -> None:
    step = step_of(3)
    first = logits.of(step, np.array([4, 7]), ["a", "bb"], hits_of([[1, 2, 3, 9], [5, 6, -1, 9]]), "first")
    assert model.asked == 5
    second = logits.of(step, np.array([7, 4]), ["bb", "a"], hits_of([[6, 8, 5, 0], [3, 1, 2, 0]]), "second")
    assert model.asked == 6
    np.testing.assert_array_equal(first, np.array([[1001, 1002, 1003], [2005, 2006, np.nan]], np.float32))
    np.testing.assert_array_equal(second, np.array([[2006, 2008, 2005], [1003, 1001, 1002]], np.float32))


def test_the_same_row_of_another_request_is_another_pair(model: CountingModel, logits: KnownLogits) -> None:
    step = step_of(1)
    logits.of(step, np.array([0]), ["a"], hits_of([[1]]), "first")
    scores = logits.of(step, np.array([1]), ["bb"], hits_of([[1]]), "second")
    assert scores.tolist() == [[2001.0]]
    assert model.asked == 2


def test_each_steps_logits_are_its_own(model: CountingModel, logits: KnownLogits) -> None:
    first, then = step_of(2), step_of(2, "other")
    of_both = logits.of_requests(np.array([0]), ["a"], "both")
    assert of_both(first, hits_of([[1, 2]])).tolist() == [[1001.0, 1002.0]]
    assert of_both(then, hits_of([[2, 1]])).tolist() == [[11002.0, 11001.0]]
    assert of_both(first, hits_of([[2, 1]])).tolist() == [[1002.0, 1001.0]]
    assert model.asked == 4


def test_another_opening_of_a_model_is_the_same_and_its_int8_is_another(
    model: CountingModel, logits: KnownLogits
) -> None:
    of_all = logits.of_requests(np.array([0]), ["a"], "all")
    for step in (step_of(2), step_of(2), step_of(2, kind="int8")):
        of_all(step, hits_of([[1, 2]]))
    assert model.asked == 4
