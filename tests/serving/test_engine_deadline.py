"""What a deadline leaves out of an answer, and how the answer says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine_changes import changed, ids
from indexing.bundle.bundle import Bundle
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.errors import BadRequest
from serving.answering.deadline import LatencyModel, StageTimes
from serving.answering.release_state import ReleaseState
from serving.cli.show import notes_on
from serving.engine import Engine


def test_what_a_deadline_cuts_is_named_and_nobody_else_notices(reranking: Engine) -> None:
    reranking = changed(reranking, stage_times=StageTimes())
    whole, given = reranking.search("red mug"), reranking.search("red mug", rerank=False)
    assert whole.degraded == given.degraded == ()
    patient = reranking.search("red mug", deadline_ms=1e6)
    assert (ids(patient), patient.degraded) == (ids(whole), ())
    depth, slow = reranking.state.depth, LatencyModel()
    slow.observe(1, 1e9)
    engine = changed(reranking, steps=tuple(replace(step, latency=slow) for step in reranking.state.steps))
    for hurried in (
        engine.search("red mug", deadline_ms=1e5),
        engine.recommend(query="red mug", deadline_ms=1e5, filter_seen=False),
    ):
        assert ids(hurried) == ids(given)
        assert not hurried.reranked
        assert hurried.degraded == (f"rerank, full model: 0 of {depth} places",)
        assert hurried.to_dict()["degraded"] == list(hurried.degraded)
        assert notes_on(hurried).endswith(
            f"ordered by retrieval alone, {hurried.degraded[0]}, {sum(hurried.timings_ms.values()):.0f} ms"
        )
    assert engine.complete_cart(["item-00003"], deadline_ms=1e5).degraded
    assert engine.search("red mug", rerank=False, deadline_ms=1e5).degraded == ()


def test_of_fewer_candidates_than_fit_none_is_cut(reranking: Engine) -> None:
    (step,), latency = reranking.state.steps, LatencyModel()
    latency.observe(1, 10_000.0)
    engine = changed(reranking, steps=(replace(step, latency=latency),))
    five = [("item_id", "in", [f"item-{row:05}" for row in range(5)])]
    answer = engine.search("red mug", filters=five, deadline_ms=90_000.0)  # seven places fit
    assert (len(answer.items), answer.reranked, answer.degraded) == (5, ("cross-encoder",), ())


def test_a_release_with_the_same_ranker_keeps_what_was_observed_of_it(bundle_path: Path, engine: Engine) -> None:
    options = RuntimeOptions(device="cpu")
    again = ReleaseState.of_release(Bundle.open(bundle_path), engine.release, options, like=engine.state)
    assert again.steps[0].latency is engine.state.steps[0].latency


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), True, "10"])
def test_a_deadline_that_is_no_time_is_refused(engine: Engine, deadline: object) -> None:
    with pytest.raises(BadRequest, match="give milliseconds above 0"):
        engine.search("red mug", deadline_ms=deadline)  # type: ignore[arg-type]
