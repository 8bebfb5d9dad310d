"""The vectors of requests: many at once as one by one, a search heard as the newest event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval.data.dataset import DataSet
from retrieval.topk import CSR, Vectors
from serving.answering.batch import Batch, Queries
from serving.answering.deadline import Deadline
from serving.answering.release_state import ReleaseState
from serving.answering.stages.encode import content_vectors, encode, history_vectors, query_user_vectors
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS
from serving.answering.user_context import UserContexts
from serving.engine import Engine
from serving.request import Request


def hearing(state: ReleaseState, *, hears: bool, weight: float = 1.0) -> ReleaseState:
    """The state with towers that read a query as the newest event, or do not."""
    config = replace(state.user_tower.config, query_as_event=hears, history_weight=weight)
    return replace(state, user_tower=replace(state.user_tower, config=config))


def one(line: int) -> np.ndarray:
    return np.array([line])


@pytest.fixture(scope="module")
def users(engine: Engine, data: DataSet) -> UserContexts:
    """Those who did much, little and nothing; with a cart, and with one of unknown items alone."""
    reader = engine.state.user_contexts
    known = [reader.of_user(user) for user in (*data.user_ids[:6], "nobody", None)]
    given = [reader.of_request(Request(history=data.item_ids[:3])), reader.of_cart(data.item_ids[:2], data.user_ids[0])]
    found = UserContexts.join([*known, *given, reader.of_request(Request(history=["no such item"]))])
    sizes = found.histories.present.sum(axis=1)
    assert len(set(sizes.tolist())) > 3
    assert (sizes == 0).any()
    assert (found.histories.queries >= 0).any()
    return found


@pytest.mark.parametrize("hears", [True, False])
def test_the_vectors_of_many_searches_are_those_of_each(engine: Engine, users: UserContexts, hears: bool) -> None:
    state, n = hearing(engine.state, hears=hears), len(users.gap)
    queries = [("red mug", "lamp", "steel saw", "red mug")[line % 4] for line in range(n)]
    found = query_user_vectors(state, users, queries)
    assert found.shape == (n, state.version.dim)
    for line in range(n):
        alone = query_user_vectors(state, users.select(one(line)), queries[line : line + 1])
        np.testing.assert_allclose(found[[line]], alone, atol=1e-5)
    nobody = ~users.histories.readable.any(axis=1)
    np.testing.assert_allclose(
        found[nobody], query_user_vectors(state, UserContexts.nobody(n), queries)[nobody], atol=1e-5
    )


def test_the_vectors_of_many_histories_are_those_of_each(engine: Engine, users: UserContexts) -> None:
    found = history_vectors(engine.state, users)
    for line in range(len(found)):
        np.testing.assert_allclose(found[[line]], history_vectors(engine.state, users.select(one(line))), atol=1e-5)
    assert found.any(axis=1).tolist() == users.histories.readable.any(axis=1).tolist()
    assert history_vectors(engine.state, UserContexts.nobody(2)).tolist() == np.zeros_like(found[:2]).tolist()


def test_the_content_of_given_items_is_summed_and_that_of_none_is_zero(engine: Engine) -> None:
    state = engine.state
    nobody = UserContexts.nobody(3)
    found = content_vectors(state, replace(nobody, given=CSR.from_lists([[5], [], [2, 7]])))
    dim = state.user_tower.config.dim
    vectors = state.version.vectors_at(np.arange(8))[:, :dim]
    np.testing.assert_allclose(found[:, :dim], [vectors[5], np.zeros(dim), vectors[2] + vectors[7]], atol=1e-6)
    assert not found[:, dim:].any()


def test_what_is_encoded_is_what_the_task_asks_by(engine: Engine, users: UserContexts) -> None:
    n = len(users.gap)
    texts, nothing = ["red mug"] * n, [""] * n
    batch = Batch(requests=LiveRequests([Request()] * n), task=TASKS["recommend"], users=users)
    for task, queries, wanted in (
        ("recommend", nothing, history_vectors(engine.state, users)),
        ("personalised_search", texts, query_user_vectors(engine.state, users, texts)),
        ("similar", nothing, content_vectors(engine.state, users)),
    ):
        asked = replace(batch, task=TASKS[task], queries=Queries(queries, queries))  # type: ignore[index]
        np.testing.assert_allclose(encode(engine.state, asked, Deadline()).vectors, wanted, atol=1e-6)


def test_a_search_is_heard_as_the_newest_event_where_the_towers_learned_to(engine: Engine, data: DataSet) -> None:
    user = engine.state.user_contexts.of_user(data.user_ids[0])

    def vector(*, hears: bool, text: str = "red mug", users: UserContexts = user, gap: int = 0) -> Vectors:
        loud = hearing(engine.state, hears=hears, weight=1e6)  # the query alone is not heard beside it
        return query_user_vectors(loud, replace(users, gap=np.array([gap])), [text])

    nothing = engine.state.user_contexts.of_request(Request(history=()))
    assert not np.allclose(vector(hears=True), vector(hears=False))
    assert not np.allclose(vector(hears=True), vector(hears=True, gap=9))
    assert not np.allclose(vector(hears=True), vector(hears=True, text="steel saw"), atol=1e-4)
    assert np.allclose(vector(hears=False), vector(hears=False, text="steel saw"), atol=1e-4)
    assert np.allclose(vector(hears=False), vector(hears=False, gap=9))
    assert np.allclose(vector(hears=True, users=nothing), vector(hears=False, users=nothing))


def test_histories_of_any_length_are_read_as_each_alone(
    engine: Engine, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = engine.state.user_contexts.of_users([*data.user_ids[:40], "nobody"])
    lengths = users.histories.present.sum(axis=1)
    assert len(set(lengths.tolist())) > 3
    whole = history_vectors(engine.state, users)
    monkeypatch.setattr("serving.answering.stages.encode.ALIKE", 7)
    np.testing.assert_allclose(history_vectors(engine.state, users), whole, atol=1e-5)
    assert not whole[-1].any()
    assert whole[:-1].any(axis=1).sum() > 30
