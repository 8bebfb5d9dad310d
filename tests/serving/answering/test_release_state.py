"""A release opened to answer: its depth of reranking, and what an update changes of it."""

from __future__ import annotations

from pathlib import Path

from rerank_fakes import state_of, step_of

from indexing.bundle.bundle import Bundle
from retrieval.encoders.runtime import RuntimeOptions
from serving.answering.release_state import ReleaseState
from serving.jobs.update_index import Update

ON_CPU = RuntimeOptions(device="cpu")


def test_another_depth_is_that_of_the_first_step_and_the_most_of_the_others() -> None:
    state = state_of(step_of("shallow", 100), step_of("full", 25))
    assert [step.depth for step in state.at_depth(50).steps] == [50, 25]
    assert [step.depth for step in state.at_depth(10).steps] == [10, 10]
    assert (state.depth, state_of().depth) == (100, 0)


def test_a_state_of_the_same_towers_and_ranker_shares_their_models(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    first = ReleaseState.live(bundle, ON_CPU)
    second = ReleaseState.live(bundle, ON_CPU, like=first)
    assert second.user_tower is first.user_tower
    assert second.query_vectors is first.query_vectors
    assert [step.scorer for step in second.steps] == [step.scorer for step in first.steps]
    assert all(step.latency is like.latency for step, like in zip(second.steps, first.steps, strict=True))


def test_an_update_gives_another_state_and_leaves_the_one_before(own_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(own_bundle)
    before = ReleaseState.live(bundle, ON_CPU)
    assert before.updated() is before
    gone = int(before.version.rows_of(["item-00007"])[0])
    (tmp_path / "gone.txt").write_text("item-00007")
    Update(upsert=None, delete=tmp_path / "gone.txt", max_bad=0.1).apply(bundle, device="cpu", say=lambda _: None)
    after = before.updated()
    assert (before.version.revision, after.version.revision) == (0, 1)
    assert after.user_contexts.version is after.version
    every = [set(state.retriever.popular(1, before.version.size).rows[0].tolist()) for state in (before, after)]
    assert every[0] - every[1] == {gone}
