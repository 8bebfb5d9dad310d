"""Many requests at once: the same items with the same scores as one by one, whatever they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from engine_changes import changed, with_fusion
from retrieval.data.dataset import DataSet
from retrieval.encoders.runtime import available_cores
from retrieval.errors import BadRequest
from serving.answering import many
from serving.engine import Engine
from serving.request import Answer


@pytest.fixture(params=["sources", "reranked"])
def asked(request: pytest.FixtureRequest, engine: Engine, reranking: Engine) -> Engine:
    """An engine that fuses several sources, and one that reranks."""
    return Engine(with_fusion(engine.state)) if request.param == "sources" else reranking


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "BLOCK", 7)


def assert_as_one_by_one(
    batches: Iterable[pa.RecordBatch], key: str, keys: Iterable[str], alone: Callable[[str], Answer]
) -> None:
    table = pa.Table.from_batches(list(batches))
    item = "similar_item_id" if key == "item_id" else "item_id"
    rows = iter(table.to_pylist())
    for one in keys:
        answer = alone(one)
        for rank, hit in enumerate(answer.items, start=1):
            row = next(rows)
            assert (row[key], row["rank"], row[item]) == (one, rank, hit.item_id)
            assert row["score"] == pytest.approx(hit.score, abs=1e-5)
            assert row["fallbacks"] == list(answer.fallbacks)
    assert next(rows, None) is None


def test_shoppers_get_what_each_gets_alone(asked: Engine, data: DataSet, small_blocks: None) -> None:
    users = [*data.user_ids[:20], "nobody", data.user_ids[3], ""]
    for options in ({}, {"filter_seen": False, "k": 3}, {"rerank": False, "filters": "price < 30", "k": 200}):
        found = asked.recommend_many(users, **options)  # type: ignore[arg-type]
        assert_as_one_by_one(found, "user_id", users, lambda user: asked.recommend(user_id=user, **options))  # type: ignore[arg-type,misc]  # noqa: B023


def test_queries_get_what_each_gets_alone(asked: Engine, data: DataSet, small_blocks: None) -> None:
    queries = ["red mug", "", "garden chiar", data.item_ids[5], "lamp", "  ", "steel saw", "red mug", "no such thing"]
    assert_as_one_by_one(asked.search_many(queries, k=5), "query", queries, lambda query: asked.search(query, k=5))


def test_queries_of_known_shoppers_are_personalised(asked: Engine, data: DataSet) -> None:
    queries, users = ["red mug", "lamp", "steel saw"], data.user_ids[:3]
    table = pa.table({"user_id": users, "price": [1, 2, 3], "query": queries})
    of = dict(zip(queries, users, strict=True))
    found = asked.search_many(table, k=4)
    assert_as_one_by_one(found, "query", queries, lambda query: asked.search(query, user_id=of[query], k=4))


def test_items_get_what_each_gets_alone(asked: Engine, data: DataSet, small_blocks: None) -> None:
    items = [*data.item_ids[:20], "no such item"]
    assert_as_one_by_one(asked.similar_many(items), "item_id", items, asked.similar)


def test_variants_and_unlike_items_are_answered_as_alone(engine: Engine, data: DataSet) -> None:
    options = {"one_per_group": False, "diversity": 0.7}
    users = data.user_ids[:5]
    found = engine.recommend_many(users, **options)  # type: ignore[arg-type]
    assert_as_one_by_one(found, "user_id", users, lambda user: engine.recommend(user_id=user, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "of",
    [
        list,
        iter,
        pa.array,
        lambda ids: pa.chunked_array([ids[:4], ids[4:]]),
        lambda ids: pa.table({"user_id": ids}),
        lambda ids: pa.table({"user_id": pa.array(ids).dictionary_encode()}),
        lambda ids: pa.table({"user_id": ids}).to_reader(3),
    ],
)
def test_ids_come_in_whatever_holds_texts(
    engine: Engine, data: DataSet, of: Callable[[list[str]], Iterable[str]], small_blocks: None
) -> None:
    ids = list(data.user_ids[:10])
    found = pa.Table.from_batches(engine.recommend_many(of(ids), k=3))
    assert found["user_id"].to_pylist() == list(np.repeat(ids, 3))


def test_whole_numbers_are_the_ids_that_they_spell(engine: Engine) -> None:
    (batch,) = engine.recommend_many(pa.table({"user_id": [7, 8]}), k=1)
    assert batch["user_id"].to_pylist() == ["7", "8"]


def test_a_release_answers_the_whole_and_is_named(engine: Engine, data: DataSet) -> None:
    own = Engine(engine.state)
    found = own.recommend_many(data.user_ids[:3], k=1)
    own.close()
    (batch,) = found
    assert batch.schema.metadata == {b"release": engine.release.id.encode(), b"index_revision": b"0"}
    assert list(engine.recommend_many([])) == []


def test_requests_are_read_as_they_are_answered(engine: Engine, data: DataSet, small_blocks: None) -> None:
    read = []

    def users() -> Iterator[str]:
        for user in data.user_ids[:100]:
            read.append(user)
            yield user

    found = engine.recommend_many(users(), k=2)
    assert read == []
    assert next(found).num_rows == 14
    assert len(read) <= 7 * (available_cores() + 1) < 100


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ("u1", "'u1' is no list; give one"),
        (None, "None is no list"),
        (pa.table({"user": ["u1"]}), "has user; call the column of ids or texts user_id"),
        (["u1", 7], "user_id 7 of row 1, counted from 0, is no text"),
        (pa.table({"user_id": ["u1", None]}), "user_id None of row 1"),
        (pa.table({"user_id": [1.5]}), "user_id 1.5 of row 0"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(engine: Engine, users: list[str], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        list(engine.recommend_many(users))


def test_bad_arguments_are_refused_before_anything_is_read(engine: Engine) -> None:
    for call in (
        lambda: engine.recommend_many(["u1"], k=0),
        lambda: engine.search_many(["mug"], diversity=2.0),
        lambda: engine.similar_many("item-00001"),
        lambda: changed(engine).recommend_many(pa.table({"id": ["u1"]})),
    ):
        with pytest.raises(BadRequest):
            call()


def test_progress_is_shown_where_it_is_asked_for(
    engine: Engine, data: DataSet, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr("retrieval.progress.ProgressMeter.advance", lambda self, n: shown.append((self.total, n)))
    list(engine.recommend_many(data.user_ids[:9], k=1, show_progress=True))
    list(engine.recommend_many(iter(data.user_ids[:2]), k=1, show_progress=True))
    assert shown == [(9, 7), (9, 2), (0, 2)]
    list(engine.recommend_many(data.user_ids[:9], k=1))
    assert len(shown) == 3
