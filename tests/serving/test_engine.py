"""The engine: what it answers, what it leaves out, and what it falls back to."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.blend import Blend
from retrieval.dataset import DataSet, load
from retrieval.errors import BadRequest
from retrieval.fusion import Fusion
from retrieval.requests import Requests
from retrieval.sources import DAY
from retrieval.timeline import HistoryBatch
from serving import retriever
from serving.engine import Engine
from serving.offline import Offline, query_shortlists
from serving.opened import CATALOGUE, FEWER, KNOWN_ITEMS, POPULAR, QUERY_ALONE, RECOMMENDATION
from serving.requests import Answer, Request
from serving.retriever import Retriever
from serving.shoppers import Shoppers
from serving.stages import Stages
from serving.steps import recorded_steps

USERS = 12


@pytest.fixture(scope="module")
def data(sample_folder: Path) -> DataSet:
    return load(sample_folder)


def changed(engine: Engine, **parts: object) -> Engine:
    """An engine that answers from the same release but for these parts."""
    return Engine(replace(engine.opened, **parts))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reranking(engine: Engine) -> Engine:
    """The engine with both gates open, whatever the tiny ranker is worth."""
    return changed(engine, reranks=frozenset({"recommend", "search"}))


FUSIONS = {
    "recommend": Fusion({"towers": 1.0, "co_occurrence": 0.7, "own_frequency": 0.5, "popularity_30d": 0.2}),
    "recommend_new": Fusion({"towers": 1.0, "co_occurrence": 1.1, "popularity_30d": 0.4}),
    "search": Fusion({"towers": 1.0, "words": 0.1}),
}


def with_fusion(stages: Stages, **fusions: Fusion) -> Stages:
    return replace(stages, retriever=replace(stages.retriever, fusions=FUSIONS | fusions))


def by_towers_alone(stages: Stages) -> Stages:
    return replace(stages, retriever=replace(stages.retriever, fusions={}))


def with_blend(engine: Engine, blend: Blend) -> Engine:
    steps = tuple(replace(step, blends={"recommend": blend, "search": blend}) for step in engine.stages.steps)
    return changed(engine, stages=replace(engine.stages, steps=steps))


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


def ids(answer: Answer) -> list[str]:
    return [hit.item_id for hit in answer.items]


def taken(data: DataSet, user: int, kinds: tuple[str, ...]) -> set[str]:
    assert data.events is not None
    events = data.events
    mine = slice(events.offsets[user], events.offsets[user + 1])
    rows = events.item[mine][np.isin(events.kind[mine], [events.kinds.index(kind) for kind in kinds])]
    return {data.item_ids[row] for row in rows}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("seen", ["remove", "keep"])
def test_the_offline_path_and_the_engine_give_the_same_shortlist_and_scores(
    engine: Engine, offline: Offline, everyone: Requests, data: DataSet, seen: str, fused: bool
) -> None:
    if fused:
        engine = changed(engine, stages=with_fusion(engine.stages))
        offline = replace(offline, stages=engine.stages)
    everyone = replace(everyone, time=np.full(USERS, engine.histories.today[0] * DAY))
    hits = offline.shortlists(everyone, offline.seen(everyone) if seen == "remove" else None)
    for user, rows, scores in zip(everyone.user, *hits, strict=True):
        answer = engine.recommend(user_id=data.user_ids[user], k=100, seen=seen, rerank=False)  # type: ignore[arg-type]
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


def test_the_offline_path_and_the_engine_rerank_alike(
    reranking: Engine, offline: Offline, everyone: Requests, data: DataSet
) -> None:
    hits = offline.shortlists(everyone, None)
    stages = reranking.stages
    expected = stages.rerank(offline.user_texts(everyone), hits, "recommend")
    shown = stages.shown_scores(expected)
    for line, user in enumerate(everyone.user):
        answer = reranking.recommend(user_id=data.user_ids[user], k=100, seen="keep")
        assert answer.reranked
        assert ids(answer) == [data.item_ids[row] for row in expected.hits.rows[line]]
        assert [hit.retrieval_rank for hit in answer.items] == (expected.places[line] + 1).tolist()
        np.testing.assert_allclose([hit.score for hit in answer.items], shown[line], atol=1e-5)


def test_the_blend_decides_between_the_two_orders(reranking: Engine) -> None:
    given = reranking.search("red mug", k=10, rerank=False)
    logit_alone = with_blend(reranking, Blend(1.0, 0.0)).search("red mug", k=10)
    assert ids(with_blend(reranking, Blend(0.0, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1e-9, 1.0)).search("red mug", k=10)) == ids(given)
    assert ids(with_blend(reranking, Blend(1.0, 1e-9)).search("red mug", k=10)) == ids(logit_alone) != ids(given)


def test_the_engine_follows_the_blend_of_its_release(engine: Engine) -> None:
    (recorded,), (step,) = recorded_steps(engine.release.settings), engine.stages.steps
    assert recorded.blends == step.blends
    assert set(step.blends) == {"recommend", "recommend_new", "search", "grade"}


def test_the_order_of_new_things_has_a_blend_of_its_own(reranking: Engine) -> None:
    by_retrieval = {"recommend": Blend(1.0, 0.0), "recommend_new": Blend(0.0, 1.0)}
    (step,) = reranking.stages.steps
    engine = changed(reranking, stages=replace(reranking.stages, steps=(replace(step, blends=by_retrieval),)))
    user = engine.shoppers.user_ids[0].as_py()
    given = engine.recommend(user_id=user, seen="remove", rerank=False)
    assert ids(engine.recommend(user_id=user, seen="remove")) == ids(given)
    assert ids(engine.recommend(user_id=user, seen="keep")) != ids(engine.recommend(user_id=user, rerank=False))
    assert replace(step, blends={"recommend": Blend(2.0)}).blend("recommend_new") == Blend(2.0)
    assert replace(step, blends={}).blend("recommend_new") == Blend()


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


def test_only_what_was_taken_is_left_out_however_long_ago(engine: Engine, data: DataSet) -> None:
    assert data.events is not None
    user = int(np.argmax(np.diff(data.events.offsets)))
    assert np.diff(data.events.offsets)[user] > 2 * engine.histories.longest
    bought = taken(data, user, engine.histories.targets)
    looked_at = taken(data, user, data.events.kinds) - bought
    answered = set(ids(engine.recommend(user_id=data.user_ids[user], k=data.n_items, seen="remove")))
    assert bought
    assert looked_at
    assert answered == set(data.item_ids) - bought


def test_every_given_item_is_left_out_and_read_as_taken(engine: Engine, data: DataSet) -> None:
    history = list(data.item_ids[: engine.histories.longest + 3])
    answer = engine.recommend(history=history, k=data.n_items, seen="remove")
    assert set(ids(answer)) == set(data.item_ids) - set(history)
    batch = engine.histories.of_items(history).batch
    assert batch.items.shape == (1, engine.histories.longest)
    kinds = engine.shoppers.timeline.kinds
    assert {kinds[code - 1] for code in batch.kinds.ravel()} == {engine.histories.targets[0]}


def test_an_unknown_shopper_is_answered_by_what_is_popular(engine: Engine) -> None:
    answer = engine.recommend(user_id="nobody")
    counts = engine.shoppers.popularity
    assert answer.fell_back_to == (POPULAR,)
    assert not answer.reranked
    assert [hit.score for hit in answer.items] == sorted(counts.tolist(), reverse=True)[:10]


@pytest.mark.parametrize("history", [[], ["no such item"], ["", "\udcff"]])
def test_a_history_that_says_nothing_is_answered_by_what_is_popular(engine: Engine, history: list[str]) -> None:
    assert engine.recommend(history=history).items == engine.recommend().items
    assert engine.recommend(history=history).fell_back_to == (POPULAR,)


def test_unknown_items_of_a_history_are_passed_over(engine: Engine, data: DataSet) -> None:
    known = list(data.item_ids[:3])
    answer = engine.recommend(history=[known[0], "no such item", *known[1:]])
    assert answer.items == engine.recommend(history=known).items
    assert answer.fell_back_to == (KNOWN_ITEMS,)


@pytest.mark.parametrize("query", ["", "  \n\x00 "])
def test_an_empty_query_is_a_recommendation(engine: Engine, data: DataSet, query: str) -> None:
    user = data.user_ids[0]
    answer = engine.search(query, user_id=user)
    assert answer.items == engine.recommend(user_id=user, seen="keep").items
    assert answer.fell_back_to == (RECOMMENDATION,)
    assert engine.search(query).fell_back_to == (RECOMMENDATION, POPULAR)


def test_a_search_by_an_unknown_shopper_is_answered_by_the_query_alone(engine: Engine) -> None:
    answer = engine.search("red mug", user_id="nobody")
    assert answer.items == engine.search("red mug").items
    assert answer.fell_back_to == (QUERY_ALONE,)
    assert engine.search("red mug").fell_back_to == ()


def test_a_shopper_bends_a_search(engine: Engine, data: DataSet) -> None:
    alone = engine.search("red mug", rerank=False, k=30)
    bent = engine.search("red mug", user_id=data.user_ids[0], rerank=False, k=30)
    assert [hit.score for hit in bent.items] != [hit.score for hit in alone.items]


@pytest.mark.parametrize("reranks", [True, False])
def test_more_items_than_there_are_gives_each_one_once(reranking: Engine, data: DataSet, reranks: bool) -> None:
    user = data.user_ids[1]
    answer = reranking.recommend(user_id=user, k=10 * data.n_items, seen="remove", rerank=reranks)
    expected = set(data.item_ids) - taken(data, 1, reranking.histories.targets)
    assert len(answer.items) == len(expected)
    assert set(ids(answer)) == expected
    assert sorted(hit.retrieval_rank for hit in answer.items) == list(range(1, len(expected) + 1))
    assert all(np.isfinite(hit.score) for hit in answer.items)
    assert FEWER in answer.fell_back_to


def test_similar_items_leave_the_item_itself_out(engine: Engine, data: DataSet) -> None:
    item = data.item_ids[5]
    answer = engine.similar(item, k=data.n_items)
    assert set(ids(answer)) == set(data.item_ids) - {item}
    dim = engine.stages.user.config.dim
    vectors = engine.stages.version.vectors[:, :dim]
    cosines = vectors @ vectors[5]
    np.testing.assert_allclose([hit.score for hit in answer.items], np.sort(np.delete(cosines, 5))[::-1], atol=1e-5)
    assert engine.similar("no such item").items == engine.recommend().items
    assert engine.similar("no such item").fell_back_to == (POPULAR,)


def test_a_cart_is_never_answered(engine: Engine, data: DataSet) -> None:
    cart = list(data.item_ids[3:5])
    answer = engine.complete_cart(cart, k=data.n_items)
    assert set(ids(answer)) == set(data.item_ids) - set(cart)
    assert answer.items[:10] == engine.recommend(history=cart, seen="remove", k=data.n_items).items[:10]
    user = data.user_ids[2]
    kept = engine.recommend(user_id=user, seen="keep", k=data.n_items).items
    known = engine.complete_cart([], user_id=user, k=data.n_items).items
    assert [(hit.item_id, hit.score) for hit in known] == [(hit.item_id, hit.score) for hit in kept]


def test_a_cart_goes_on_from_its_shoppers_history(engine: Engine, data: DataSet) -> None:
    user, cart = data.user_ids[2], [data.item_ids[3], "no such item"]
    answer = engine.complete_cart(cart, user_id=user)
    assert data.item_ids[3] not in ids(answer)
    assert answer.fell_back_to == (KNOWN_ITEMS,)
    assert ids(answer) != ids(engine.complete_cart(cart))
    assert engine.complete_cart([], user_id="nobody").fell_back_to == (POPULAR,)
    empty = engine.complete_cart([], user_id=user)
    assert empty.items == engine.recommend(user_id=user).items


def test_a_query_longer_than_the_model_is_read_from_its_beginning(engine: Engine) -> None:
    long = "red mug and a small steel lamp " * 20_000
    assert engine.search(long).items == engine.search(long[:290]).items


def test_a_query_of_broken_text_is_still_answered(engine: Engine) -> None:
    assert len(engine.search("red \udcff mug").items) == 10


def test_nothing_known_to_be_popular_is_answered_in_the_order_of_the_catalogue(engine: Engine) -> None:
    nobody = Shoppers.nobody(engine.stages.version.size)
    bare = changed(
        engine,
        shoppers=nobody,
        histories=replace(engine.histories, shoppers=nobody),
        stages=replace(engine.stages, retriever=Retriever(engine.stages.version, nobody.popularity)),
    )
    answer = bare.recommend(user_id="nobody", k=3)
    assert ids(answer) == bare.stages.version.ids_of(np.arange(3))
    assert answer.fell_back_to == (CATALOGUE,)
    assert len(bare.recommend(history=ids(answer)).items) == 10


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": -3}, {"k": True}, {"k": 2.0}, {"history": "abc"}, {"history": [1]}, {"query": 3}]
)
def test_a_request_that_cannot_mean_anything_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match=next(iter(wrong))):
        Request(**wrong)  # type: ignore[arg-type]


def test_many_threads_get_the_answers_of_one(reranking: Engine, data: DataSet) -> None:
    users = list(data.user_ids[:8]) * 3
    alone = [reranking.recommend(user_id=user).items for user in users]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda user: reranking.recommend(user_id=user).items, users))
    for first, second in zip(alone, together, strict=True):
        assert [hit.item_id for hit in first] == [hit.item_id for hit in second]


def test_a_bundle_that_cannot_be_written_is_served_without_its_derived_files(own_bundle: Path, engine: Engine) -> None:
    shutil.rmtree(own_bundle / "runtime")
    (own_bundle / "runtime").write_text("a file where no folder can be made")
    answer = Engine.open(own_bundle, device="cpu").search("red mug")
    assert ids(answer) == ids(engine.search("red mug"))


def test_an_answer_names_its_release_and_is_json(engine: Engine, data: DataSet) -> None:
    import json

    answer = engine.recommend(user_id=data.user_ids[0], k=2)
    found = json.loads(json.dumps(answer.to_dict()))
    assert found["release"] == engine.release.id
    assert set(found["items"][0]) == {"item_id", "title", "score", "retrieval_rank", "sources"}
    assert engine.titles([found["items"][0]["item_id"], "no such item"]) == [found["items"][0]["title"]]


def test_a_past_query_is_read_once_and_as_any_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = replace(engine.stages)
    read: list[str] = []
    encode = type(stages.user).queries

    def counted(tower: object, texts: list[str]) -> np.ndarray:
        read.extend(texts)
        return encode(tower, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(type(stages.user), "queries", counted)
    monkeypatch.setattr("serving.stages.REMEMBERED", 2)
    wanted = encode(stages.user, ["red mug", "steel saw", "oil"])
    np.testing.assert_allclose(stages.query_vectors(["red mug", "steel saw"]), wanted[:2], atol=1e-6)
    np.testing.assert_allclose(stages.query_vectors(["steel saw", "oil", "red mug"]), wanted[[1, 2, 0]], atol=1e-6)
    assert read == ["red mug", "steel saw", "oil"]
    np.testing.assert_allclose(stages.query_vectors(["steel saw"]), wanted[[1]], atol=1e-6)


def test_every_hit_names_the_sources_that_proposed_it(engine: Engine, data: DataSet) -> None:
    fused = changed(engine, stages=with_fusion(engine.stages))
    user = data.user_ids[0]
    answer = fused.recommend(user_id=user, k=100, seen="keep")
    own = taken(data, 0, engine.histories.targets)
    assert own <= set(ids(answer))
    for hit in answer.items:
        assert ("own_frequency" in hit.sources) == (hit.item_id in own)
        assert hit.sources
    alone = changed(engine, stages=by_towers_alone(engine.stages))
    assert {hit.sources for hit in alone.recommend(user_id=user).items} == {("towers",)}


@pytest.mark.parametrize("fuse", [False, True])
def test_an_item_that_is_searched_by_its_id_stands_first(reranking: Engine, data: DataSet, fuse: bool) -> None:
    engine = changed(reranking, stages=with_fusion(reranking.stages)) if fuse else reranking
    for row in (0, 7, 33):
        answer = engine.search(f" {data.item_ids[row]} ", k=5)
        assert ids(answer)[0] == data.item_ids[row]
        assert "exact" in answer.items[0].sources
        assert not any("exact" in hit.sources for hit in answer.items[1:])
        assert answer.reranked


def test_a_source_that_a_release_lacks_is_passed_over(engine: Engine) -> None:
    lacking = replace(engine.stages.retriever, sources={}, fusions=FUSIONS)
    bare = changed(engine, stages=replace(engine.stages, retriever=lacking))
    alone = changed(engine, stages=by_towers_alone(engine.stages))
    assert ids(bare.search("red mug")) == ids(alone.search("red mug"))


def test_a_shopper_of_whom_the_towers_know_nothing_is_answered_by_what_sells_now(engine: Engine) -> None:
    fused = changed(engine, stages=with_fusion(engine.stages))
    answer = fused.recommend(history=[], k=5)
    assert all(hit.sources == ("popularity_30d",) for hit in answer.items)
    assert answer.fell_back_to == (POPULAR,)


def test_what_did_not_sell_of_late_follows_what_did(engine: Engine, data: DataSet) -> None:
    a_week = changed(engine, stages=with_fusion(engine.stages, recommend=Fusion({"towers": 1.0, "popularity_7d": 1.0})))
    answer = a_week.recommend(user_id="nobody", k=data.n_items)
    assert sorted(ids(answer)) == sorted(data.item_ids)
    assert (np.diff([hit.score for hit in answer.items]) <= 0).all()
    proposed = [bool(hit.sources) for hit in answer.items]
    assert proposed == sorted(proposed, reverse=True)
    assert 0 < sum(proposed) < data.n_items
    assert set(ids(answer)[: sum(proposed)]) <= set(ids(a_week.recommend(user_id="nobody", k=sum(proposed))))


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


def test_a_search_is_heard_as_the_newest_event_where_the_towers_learned_to(engine: Engine, data: DataSet) -> None:
    known = engine.histories.of_shopper(data.user_ids[0])
    stages, texts = engine.stages, engine.shoppers.query_texts
    config = stages.user.config

    def vector(*, hears: bool, text: str = "red mug", batch: HistoryBatch = known.batch, gap: int = 0) -> np.ndarray:
        loud = replace(config, history_hears_query=hears, history_weight=1e6)  # the query alone is not heard beside it
        told = replace(stages, user=replace(stages.user, config=loud))
        return told.searcher_vectors(batch, texts, text, np.array([gap]))

    nothing = engine.histories.of_items(()).batch
    assert not np.allclose(vector(hears=True), vector(hears=False))
    assert not np.allclose(vector(hears=True), vector(hears=True, gap=9))
    assert not np.allclose(vector(hears=True), vector(hears=True, text="steel saw"), atol=1e-4)
    assert np.allclose(vector(hears=False), vector(hears=False, text="steel saw"), atol=1e-4)
    assert np.allclose(vector(hears=False), vector(hears=False, gap=9))
    assert np.allclose(vector(hears=True, batch=nothing), vector(hears=False, batch=nothing))
