"""The order of the engine's answers: what the blend makes of two orders, and what a release records of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed, ids, with_fusion
from ranking.ordering.blend import Blend
from retrieval.data.dataset import DataSet
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.release_settings import ReleaseSettings
from serving.answering.rerank_steps import recorded_steps
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.retrieve import retrieve
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.request import Request


def with_blend(engine: Engine, blend: Blend) -> Engine:
    steps = tuple(replace(step, blends={"recommend": blend, "search": blend}) for step in engine.state.steps)
    return changed(engine, steps=steps)


def test_the_blend_decides_between_the_two_orders(reranking: Engine) -> None:
    given = reranking.search("red mug", k=10, rerank=False)
    logit_alone = with_blend(reranking, Blend(1.0, 0.0)).search("red mug", k=10)
    assert ids(with_blend(reranking, Blend(0.0, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1e-9, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1.0, 1e-9)).search("red mug", k=10)) == ids(logit_alone) != ids(given)


@pytest.mark.parametrize("user", [0, 3, 7])
def test_a_source_can_decide_the_order_alone(reranking: Engine, data: DataSet, user: int) -> None:
    blend = Blend(0.0, 0.0, sources={"co_occurrence": 1.0, "unknown": 9.0})
    engine = with_blend(Engine(with_fusion(reranking.state)), blend)
    request = Request(user_id=data.user_ids[user], filter_seen=False)
    batch = Batch(requests=LiveRequests([request]), task=TASKS["recommend"])
    hits, depth = run(engine.state, batch, until=retrieve).candidates.hits, engine.state.depth
    assert hits.parts["co_occurrence"].any()
    order = np.argsort(-hits.parts["co_occurrence"][0, :depth], kind="stable")
    answer = engine.answer(replace(request, k=depth))
    assert ids(answer) == [data.item_ids[row] for row in hits.rows[0, order]]


def test_the_engine_follows_the_blend_of_its_release(engine: Engine) -> None:
    (recorded,), (step,) = ReleaseSettings.of(engine.release).rerank, engine.state.steps
    assert recorded.blends == step.blends
    assert recorded_steps(engine.state.steps) == (recorded,)
    assert set(step.blends) == {"recommend", "recommend_unseen", "complete_cart", "search", "grade"}


def test_the_order_of_new_things_has_a_blend_of_its_own(reranking: Engine) -> None:
    by_retrieval = {"recommend": Blend(1.0, 0.0), "recommend_unseen": Blend(0.0, 1.0)}
    (step,) = reranking.state.steps
    engine = changed(reranking, steps=(replace(step, blends=by_retrieval),))
    user = engine.state.user_store.user_ids[0].as_py()
    given = engine.recommend(user_id=user, filter_seen=True, rerank=False)
    assert ids(engine.recommend(user_id=user, filter_seen=True)) == ids(given)
    assert ids(engine.recommend(user_id=user, filter_seen=False)) != ids(engine.recommend(user_id=user, rerank=False))
    assert replace(step, blends={"recommend": Blend(2.0)}).blend("recommend_unseen") == Blend(2.0)
    assert replace(step, blends={}).blend("recommend_unseen") == Blend()


def test_without_a_blend_a_reranked_score_is_what_the_cross_encoder_library_predicts(
    reranking: Engine, bundle_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    assert reranking.release.ranker is not None
    library = CrossEncoder(str(bundle_path / "ranker" / reranking.release.ranker), device="cpu")
    answer = with_blend(reranking, Blend()).search("red mug", k=5)
    rows = reranking.state.version.rows_of(ids(answer))
    texts = reranking.state.item_texts(rows)
    wanted = library.predict([("red mug", text) for text in texts], show_progress_bar=False)
    np.testing.assert_allclose([hit.score for hit in answer.items], wanted, atol=1e-4)
