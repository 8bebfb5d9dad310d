"""What an engine is opened with beside the release: memory, shortlist, runtime; and how its answers are timed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed
from retrieval.encoders.runtime import Runner
from retrieval.errors import BadConfig
from serving.answering.pipeline import STAGES
from serving.engine import Engine

CHEAP = [("price", ">=", 0)]


@dataclass
class Counting:
    """A model that counts its batches."""

    runner: Runner
    batches: int = 0

    @property
    def budget_tokens(self) -> int:
        return self.runner.budget_tokens

    @property
    def streams(self) -> int:
        return self.runner.streams

    def __call__(self, *batch: np.ndarray) -> np.ndarray:
        self.batches += 1
        return self.runner(*batch)


def test_every_part_of_an_answer_is_timed_under_the_name_of_its_stage(reranking: Engine) -> None:
    (user,) = reranking.state.user_store.user_ids[:1].to_pylist()
    for answer in (
        reranking.search("red mug", filters=CHEAP),
        reranking.recommend(user_id=user, rerank=False),
        reranking.similar("item-00003", filters=CHEAP),
        reranking.complete_cart(["item-00003"]),
    ):
        assert list(answer.timings_ms) == [stage.__name__ for stage in STAGES]
        assert all(milliseconds >= 0 for milliseconds in answer.timings_ms.values())


def test_an_engine_that_forgets_reads_a_query_and_a_filter_anew(engine: Engine) -> None:
    tower = engine.state.user_tower
    runner = Counting(tower.encoder.runner)
    tower = replace(tower, encoder=replace(tower.encoder, runner=runner))
    asked = changed(engine, user_tower=tower, query_vectors=type(engine.state.query_vectors)(tower))
    first = asked.search("red mug", filters=CHEAP, rerank=False)
    assert asked.search("red mug", filters=CHEAP, rerank=False).items == first.items
    assert runner.batches == 1
    mask = asked.state.filter_masks.of(CHEAP)
    assert asked.state.filter_masks.of(CHEAP) is mask
    asked.state.forget()
    assert asked.state.filter_masks.of(CHEAP) is not mask
    assert asked.search("red mug", filters=CHEAP, rerank=False).items == first.items
    assert runner.batches == 2


def test_a_shortlist_of_another_size_is_what_is_retrieved_and_never_less_than_k(reranking: Engine) -> None:
    short = changed(reranking, shortlist=7)
    assert max(hit.retrieval_rank for hit in short.search("red mug", k=5).items) <= 7
    assert len(short.search("red mug", k=20).items) == 20


def test_another_runtime_answers_the_same(bundle_path: Path) -> None:
    by_torch = Engine.open(bundle_path, device="cpu", precision="fp32", runtime="torch", auto_reload=False)
    assert {step.scorer.placement.runtime for step in by_torch.state.steps} == {"torch"}
    found, expected = (
        one.state.query_vectors.of(["red mug"])
        for one in (by_torch, Engine.open(bundle_path, device="cpu", precision="fp32", auto_reload=False))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(BadConfig, match="use openvino or torch"):
        Engine.open(bundle_path, device="cpu", runtime="jax")  # type: ignore[arg-type]
