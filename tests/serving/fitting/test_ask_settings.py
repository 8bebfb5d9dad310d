"""What an engine is opened and asked with beside the request: stages that are timed, memory, shortlist, runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed
from retrieval.encoders.runtime import Runner
from retrieval.errors import BadConfig
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
    searched = reranking.search("red mug", filters=CHEAP)
    assert set(searched.timings_ms) == {
        "history", "spell", "filters", "encode", "search", "rerank", "explain"
    }  # fmt: skip
    (user,) = reranking.shoppers.user_ids[:1].to_pylist()
    assert set(reranking.recommend(user_id=user, rerank=False).timings_ms) == {"history", "search", "explain"}
    similar = reranking.similar("item-00003", filters=CHEAP)
    assert set(similar.timings_ms) == {"history", "filters", "search", "explain"}


def test_an_engine_that_forgets_reads_a_query_and_a_filter_anew(engine: Engine) -> None:
    user = engine.stages.user
    runner = Counting(user.encoder.runner)
    stages = replace(engine.stages, user=replace(user, encoder=replace(user.encoder, runner=runner)))
    asked = changed(engine, stages=stages)
    first = asked.search("red mug", filters=CHEAP, rerank=False)
    assert asked.search("red mug", filters=CHEAP, rerank=False).items == first.items
    assert runner.batches == 1
    asked.state.forget()
    assert asked.search("red mug", filters=CHEAP, rerank=False).items == first.items
    assert runner.batches == 2


def test_a_shortlist_of_another_size_is_what_is_retrieved_and_never_less_than_k(reranking: Engine) -> None:
    short = changed(reranking, stages=replace(reranking.stages, shortlist=7))
    assert max(hit.retrieval_rank for hit in short.search("red mug", k=5).items) <= 7
    assert len(short.search("red mug", k=20).items) == 20


def test_another_runtime_answers_the_same(bundle_path: Path, engine: Engine) -> None:
    by_torch = Engine.open(bundle_path, device="cpu", precision="fp32", runtime="torch", auto_reload=False)
    assert {step.scorer.placement.runtime for step in by_torch.stages.steps} == {"torch"}
    found, expected = (
        one.stages.query_vectors(["red mug"])
        for one in (by_torch, Engine.open(bundle_path, device="cpu", precision="fp32", auto_reload=False))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(BadConfig, match="use openvino or torch"):
        Engine.open(bundle_path, device="cpu", runtime="jax")  # type: ignore[arg-type]
