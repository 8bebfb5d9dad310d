"""The order of the engine's answers: that of the offline path, and what the blend makes of two orders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed, ids, with_fusion
from ranking.ordering.blend import Blend
from retrieval.data.dataset import DataSet
from retrieval.data.requests import Requests
from retrieval.data.time_units import DAY
from retrieval.sources.fusion import Fusion
from retrieval.sources.protocols import RequestBatch
from serving.answering import retriever
from serving.answering.rerank_steps import recorded_steps
from serving.engine import Engine
from serving.evaluation.batch_requests import Offline, query_shortlists

USERS = 12


@pytest.fixture(scope="module")
def offline(engine: Engine, data: DataSet) -> Offline:
    assert data.events is not None
    return Offline.of(engine.stages, data.events, engine.histories.targets)


@pytest.fixture(scope="module")
def everyone(data: DataSet) -> Requests:
    """A request of some shoppers after their last event; its target does not matter."""
    assert data.events is not None
    users = np.arange(USERS, dtype=np.int32)
    return Requests(users, data.events.offsets[1:][users], np.zeros(USERS + 1, np.int64), users[:0], np.zeros(USERS))


def with_blend(engine: Engine, blend: Blend) -> Engine:
    steps = tuple(replace(step, blends={"recommend": blend, "search": blend}) for step in engine.stages.steps)
    return changed(engine, stages=replace(engine.stages, steps=steps))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_the_offline_path_and_the_engine_give_the_same_shortlist_and_scores(
    engine: Engine, offline: Offline, everyone: Requests, data: DataSet, filter_seen: bool, fused: bool
) -> None:
    if fused:
        engine = changed(engine, stages=with_fusion(engine.stages))
        offline = replace(offline, stages=engine.stages)
    everyone = replace(everyone, time=np.full(USERS, engine.histories.today[0] * DAY))
    hits = offline.shortlists(everyone, offline.seen(everyone) if filter_seen else None)
    for user, rows, scores in zip(everyone.user, hits.rows, hits.scores, strict=True):
        answer = engine.recommend(user_id=data.user_ids[user], k=100, filter_seen=filter_seen, rerank=False)
        kept = rows >= 0
        assert ids(answer) == [data.item_ids[row] for row in rows[kept]]
        np.testing.assert_allclose([hit.score for hit in answer.items], scores[kept], atol=1e-5)


def test_requests_of_many_days_are_answered_in_the_order_given(
    engine: Engine, offline: Offline, everyone: Requests
) -> None:
    stages = with_fusion(engine.stages, recommend=Fusion({"towers": 1.0, "popularity_7d": 2.0}))
    offline = replace(offline, stages=stages)
    days = engine.histories.today[0] - np.random.default_rng(0).permutation(USERS) * 5
    asked = replace(everyone, time=days * DAY)
    whole = offline.shortlists(asked, None)
    for line in range(USERS):
        (alone,) = offline.shortlists(asked.select(np.array([line])), None).rows
        assert whole.rows[line].tolist() == alone.tolist()


@pytest.mark.parametrize("marked", [False, True])
def test_the_offline_path_and_the_engine_rerank_alike(
    reranking: Engine, offline: Offline, everyone: Requests, data: DataSet, marked: bool
) -> None:
    hits = offline.shortlists(everyone, None)
    stages = replace(reranking.stages, marked=marked)
    reranking, offline = changed(reranking, stages=stages), replace(offline, stages=stages)
    expected = stages.rerank(offline.user_texts(everyone), hits, "recommend")
    shown = stages.shown_scores(expected)
    for line, user in enumerate(everyone.user):
        answer = reranking.recommend(user_id=data.user_ids[user], k=100, filter_seen=False)
        assert answer.reranked
        assert ids(answer) == [data.item_ids[row] for row in expected.hits.rows[line]]
        assert [hit.retrieval_rank for hit in answer.items] == (expected.places[line] + 1).tolist()
        np.testing.assert_allclose([hit.score for hit in answer.items], shown[line], atol=1e-5)


def test_what_is_read_of_a_query_offline_is_what_the_engine_reads(reranking: Engine) -> None:
    plain, read = reranking.stages, list[list[str]]()
    for marked in (False, True):
        stages = replace(plain, marked=marked)
        (text,) = stages.query_user_texts(["red mug"])
        hits = query_shortlists(stages, ["red mug"], stages.user.queries(["red mug"]))
        expected = stages.rerank([text], hits, "search").hits.rows[0]
        read.append(ids(changed(reranking, stages=stages).search("red mug", k=20)))
        assert read[-1] == stages.version.ids_of(expected[:20])
    assert read[0] != read[1]


def test_the_blend_decides_between_the_two_orders(reranking: Engine) -> None:
    given = reranking.search("red mug", k=10, rerank=False)
    logit_alone = with_blend(reranking, Blend(1.0, 0.0)).search("red mug", k=10)
    assert ids(with_blend(reranking, Blend(0.0, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1e-9, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1.0, 1e-9)).search("red mug", k=10)) == ids(logit_alone) != ids(given)


def test_a_source_can_decide_the_order_alone(
    reranking: Engine, offline: Offline, everyone: Requests, data: DataSet
) -> None:
    blend = Blend(0.0, 0.0, sources={"co_occurrence": 1.0, "unknown": 9.0})
    engine = with_blend(changed(reranking, stages=with_fusion(reranking.stages)), blend)
    offline = replace(offline, stages=engine.stages)
    everyone = replace(everyone, time=np.full(USERS, engine.histories.today[0] * DAY))
    hits, depth = offline.shortlists(everyone, None), engine.stages.depth
    assert hits.parts["co_occurrence"].any()
    for line, user in enumerate(everyone.user):
        order = np.argsort(-hits.parts["co_occurrence"][line, :depth], kind="stable")
        answer = engine.recommend(user_id=data.user_ids[user], k=depth, filter_seen=False)
        assert ids(answer) == [data.item_ids[row] for row in hits.rows[line, order]]


def test_what_sources_gave_stays_with_its_item_where_one_is_named(reranking: Engine) -> None:
    retriever, user = with_fusion(reranking.stages).retriever, reranking.stages.user
    texts = ["item-00030", "red mug"]
    asked, vectors = RequestBatch.of_texts(texts), user.queries(texts)
    given = retriever.shortlists(vectors, asked, 10, "search")
    found = retriever.named_first(given, asked)
    assert found.exact.any(axis=1).tolist() == [True, False]
    weights = retriever.fusion("search").weights
    for hits in (given.hits, found.hits):
        total = sum(weights[name] * hits.parts[name] for name in weights)
        told = ~found.exact if hits is found.hits else np.ones_like(found.exact)
        np.testing.assert_allclose(total[told], hits.scores[told], atol=1e-5)


def test_the_engine_follows_the_blend_of_its_release(engine: Engine) -> None:
    (recorded,), (step,) = recorded_steps(engine.release.settings), engine.stages.steps
    assert recorded.blends == step.blends
    assert set(step.blends) == {"recommend", "recommend_unseen", "search", "grade"}


def test_the_order_of_new_things_has_a_blend_of_its_own(reranking: Engine) -> None:
    by_retrieval = {"recommend": Blend(1.0, 0.0), "recommend_unseen": Blend(0.0, 1.0)}
    (step,) = reranking.stages.steps
    engine = changed(reranking, stages=replace(reranking.stages, steps=(replace(step, blends=by_retrieval),)))
    user = engine.shoppers.user_ids[0].as_py()
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
    rows = reranking.stages.version.rows_of(ids(answer))
    texts = reranking.stages.texts_of(rows)
    wanted = library.predict([("red mug", text) for text in texts], show_progress_bar=False)
    np.testing.assert_allclose([hit.score for hit in answer.items], wanted, atol=1e-4)


def test_how_many_requests_are_read_at_once_changes_nothing(
    engine: Engine, offline: Offline, everyone: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = replace(offline, stages=with_fusion(engine.stages))
    seen = offline.seen(everyone)
    whole = fused.shortlists(everyone, seen)
    texts, vectors = ["red mug", "lamp", "", "steel"], engine.stages.user.queries(["red mug", "lamp", "", "steel"])
    searched = query_shortlists(fused.stages, texts, vectors)
    monkeypatch.setattr(retriever, "CELLS", 3 * engine.stages.version.size)
    for one, other in (
        (whole, fused.shortlists(everyone, seen)),
        (searched, query_shortlists(fused.stages, texts, vectors)),
    ):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
