"""The engine: what it answers, what it leaves out, and what it falls back to."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import by_towers_alone, changed, ids, taken
from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from serving.answering.retriever import Retriever
from serving.answering.stages.describe import CATALOGUE, FEWER, KNOWN_ITEMS, POPULAR, QUERY_ALONE, RECOMMENDATION
from serving.answering.user_store import UserStore
from serving.engine import Engine
from serving.request import Request


def test_only_what_was_taken_is_left_out_however_long_ago(engine: Engine, data: DataSet) -> None:
    assert data.events is not None
    user = int(np.argmax(np.diff(data.events.offsets)))
    assert np.diff(data.events.offsets)[user] > 2 * engine.state.user_contexts.longest
    bought = taken(data, user, engine.state.user_contexts.targets)
    looked_at = taken(data, user, data.events.kinds) - bought
    answered = set(ids(engine.recommend(user_id=data.user_ids[user], k=data.n_items, filter_seen=True)))
    assert bought
    assert looked_at
    assert answered == set(data.item_ids) - bought


def test_every_given_item_is_left_out_and_read_as_taken(engine: Engine, data: DataSet) -> None:
    history = list(data.item_ids[: engine.state.user_contexts.longest + 3])
    answer = engine.recommend(history=history, k=data.n_items, filter_seen=True)
    assert set(ids(answer)) == set(data.item_ids) - set(history)
    batch = engine.state.user_contexts.of_request(Request(history=history)).histories
    assert batch.items.shape == (1, engine.state.user_contexts.longest)
    kinds = engine.state.user_store.timeline.kinds
    assert {kinds[code - 1] for code in batch.kinds.ravel()} == {engine.state.user_contexts.targets[0]}


def test_an_unknown_shopper_is_answered_by_what_is_popular(engine: Engine) -> None:
    answer = engine.recommend(user_id="nobody")
    assert answer.fallbacks == (POPULAR,)
    assert "cross-encoder" not in answer.reranked
    assert {name for hit in answer.items for name in hit.sources} <= {"popularity_30d", "popularity_7d"}
    scores = [hit.score for hit in answer.items]
    assert scores == sorted(scores, reverse=True)
    alone = Engine(by_towers_alone(engine.state)).recommend(user_id="nobody")  # without sources of what sold of late
    counts = engine.state.user_store.popularity
    assert [hit.score for hit in alone.items] == sorted(counts.tolist(), reverse=True)[:10]
    assert (alone.fallbacks, alone.reranked) == ((POPULAR,), ())


@pytest.mark.parametrize("history", [[], ["no such item"], ["", "\udcff"]])
def test_a_history_that_says_nothing_is_answered_by_what_is_popular(engine: Engine, history: list[str]) -> None:
    assert engine.recommend(history=history).items == engine.recommend().items
    assert engine.recommend(history=history).fallbacks == (POPULAR,)


def test_unknown_items_of_a_history_are_passed_over(engine: Engine, data: DataSet) -> None:
    known = list(data.item_ids[:3])
    answer = engine.recommend(history=[known[0], "no such item", *known[1:]])
    assert answer.items == engine.recommend(history=known).items
    assert answer.fallbacks == (KNOWN_ITEMS,)


@pytest.mark.parametrize("query", ["", "  \n\x00 "])
def test_an_empty_query_is_a_recommendation(engine: Engine, data: DataSet, query: str) -> None:
    user = data.user_ids[0]
    answer = engine.search(query, user_id=user)
    assert answer.items == engine.recommend(user_id=user, filter_seen=False).items
    assert answer.fallbacks == (RECOMMENDATION,)
    assert engine.search(query).fallbacks == (RECOMMENDATION, POPULAR)


def test_a_search_by_an_unknown_shopper_is_answered_by_the_query_alone(engine: Engine) -> None:
    answer = engine.search("red mug", user_id="nobody")
    assert answer.items == engine.search("red mug").items
    assert answer.fallbacks == (QUERY_ALONE,)
    assert engine.search("red mug").fallbacks == ()


def test_a_shopper_bends_a_search(engine: Engine, data: DataSet) -> None:
    alone = engine.search("red mug", rerank=False, k=30)
    bent = engine.search("red mug", user_id=data.user_ids[0], rerank=False, k=30)
    assert [hit.score for hit in bent.items] != [hit.score for hit in alone.items]


@pytest.mark.parametrize("reranks", [True, False])
def test_more_items_than_there_are_gives_each_one_once(reranking: Engine, data: DataSet, reranks: bool) -> None:
    user = data.user_ids[1]
    answer = reranking.recommend(user_id=user, k=10 * data.n_items, filter_seen=True, rerank=reranks)
    expected = set(data.item_ids) - taken(data, 1, reranking.state.user_contexts.targets)
    assert len(answer.items) == len(expected)
    assert set(ids(answer)) == expected
    assert sorted(hit.retrieval_rank for hit in answer.items) == list(range(1, len(expected) + 1))
    assert all(np.isfinite(hit.score) for hit in answer.items)
    assert FEWER in answer.fallbacks


def test_similar_items_leave_the_item_itself_out(engine: Engine, data: DataSet) -> None:
    item = data.item_ids[5]
    answer = engine.similar(item, k=data.n_items)
    assert set(ids(answer)) == set(data.item_ids) - {item}
    dim = engine.state.user_tower.config.dim
    vectors = engine.state.version.vectors[:, :dim]
    cosines = vectors @ vectors[5]
    np.testing.assert_allclose([hit.score for hit in answer.items], np.sort(np.delete(cosines, 5))[::-1], atol=1e-5)
    by_counts = Engine(by_towers_alone(engine.state)).recommend()
    assert engine.similar("no such item").items == by_counts.items
    assert engine.similar("no such item").fallbacks == (POPULAR,)


def test_a_cart_is_never_answered(engine: Engine, data: DataSet) -> None:
    cart = list(data.item_ids[3:5])
    answer = engine.complete_cart(cart, k=data.n_items)
    assert set(ids(answer)) == set(data.item_ids) - set(cart)
    user = data.user_ids[2]
    kept = engine.recommend(user_id=user, filter_seen=False, k=data.n_items).items
    known = engine.complete_cart([], user_id=user, k=data.n_items).items
    assert [(hit.item_id, hit.score) for hit in known] == [(hit.item_id, hit.score) for hit in kept]


def test_a_cart_goes_on_from_its_shoppers_history(engine: Engine, data: DataSet) -> None:
    user, cart = data.user_ids[2], [data.item_ids[3], "no such item"]
    answer = engine.complete_cart(cart, user_id=user)
    assert data.item_ids[3] not in ids(answer)
    assert answer.fallbacks == (KNOWN_ITEMS,)
    assert ids(answer) != ids(engine.complete_cart(cart))
    assert engine.complete_cart([], user_id="nobody").fallbacks == (POPULAR,)
    empty = engine.complete_cart([], user_id=user)
    assert empty.items == engine.recommend(user_id=user).items


def test_a_query_longer_than_the_model_is_read_from_its_beginning(engine: Engine) -> None:
    long = "red mug and a small steel lamp " * 20_000
    assert engine.search(long).items == engine.search(long[:290]).items


def test_a_query_of_broken_text_is_still_answered(engine: Engine) -> None:
    assert len(engine.search("red \udcff mug").items) == 10


def test_nothing_known_to_be_popular_is_answered_in_the_order_of_the_catalogue(engine: Engine) -> None:
    nobody = UserStore.nobody(engine.state.version.size)
    bare = changed(
        engine,
        user_store=nobody,
        user_contexts=replace(engine.state.user_contexts, store=nobody),
        retriever=Retriever(engine.state.version, nobody.popularity),
    )
    answer = bare.recommend(user_id="nobody", k=3)
    assert ids(answer) == bare.state.version.ids_of(np.arange(3))
    assert answer.fallbacks == (CATALOGUE,)
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
