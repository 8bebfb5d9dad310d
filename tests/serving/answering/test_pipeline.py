"""The one way of a request: its stages in their order, many requests as one by one, past ones as live ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from engine_changes import FUSIONS, ids, with_fusion, with_markers
from retrieval.data.dataset import DataSet
from retrieval.data.requests import Requests
from retrieval.data.time_units import DAY
from retrieval.sources.fusion import Fusion
from retrieval.topk import CSR
from serving.answering import pipeline
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.pipeline import STAGES, Stage, answer, answer_many, run
from serving.answering.release_state import ReleaseState
from serving.answering.stages.rank import rank
from serving.answering.stages.read_query import read_query
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.retrieve import retrieve
from serving.answering.tasks import TASKS, cart_task
from serving.engine import Engine
from serving.evaluation.batch_requests import PastEvents, PastRequests, retrieved
from serving.request import Answer, Request

NAMES = [
    "read_user",
    "read_query",
    "encode",
    "permit",
    "retrieve",
    "score",
    "rank",
    "arrange",
    "apply_rules",
    "diversify",
    "explain",
    "describe",
]
USERS = 12


@pytest.fixture(scope="module")
def mixed(data: DataSet) -> list[Request]:
    """Requests of every task, of known users and strangers, with and without what can be left out."""
    users, items = data.user_ids, list(data.item_ids)
    return [
        Request(user_id=users[0]),
        Request(query="red mug"),
        Request(task="similar", history=[items[5]]),
        Request(user_id=users[1], filter_seen=True),
        Request(user_id=users[2], filter_seen=False),
        Request(user_id="nobody"),
        Request(query="garden chiar", user_id=users[0]),
        Request(task="complete_cart", history=items[3:5]),
        Request(query="", user_id=users[3]),
        Request(query="lamp", user_id="nobody"),
        Request(query="steel saw", user_id=users[4], filter_seen=True),
        Request(task="complete_cart", history=[items[7], "no such item"], user_id=users[2]),
        Request(task="complete_cart", history=[items[7]], user_id=users[3]),
        Request(history=items[:9], k=3),
        Request(history=[]),
        Request(query=items[30]),
        Request(query="blue lamp", history=items[:2]),
        Request(query="garden chiar", user_id=users[5], spellcheck=False),
        Request(user_id=users[6], rerank=False, k=200),
        Request(user_id=users[7], filters=[("price", "<", 30.0)]),
        Request(query="red mug", filters=[("price", "<", 30.0)]),
        Request(task="similar", history=["no such item"]),
        Request(task="similar", history=[items[8]]),
        Request(user_id=users[8]),
    ]


def assert_alike(found: Answer, wanted: Answer) -> None:
    """The same items in the same order for the same reasons; scores as exact as batches are."""
    assert ids(found) == ids(wanted)
    assert [(hit.title, hit.retrieval_rank, hit.sources) for hit in found.items] == [
        (hit.title, hit.retrieval_rank, hit.sources) for hit in wanted.items
    ]
    np.testing.assert_allclose([hit.score for hit in found.items], [hit.score for hit in wanted.items], atol=1e-4)
    assert replace(found, items=(), timings_ms={}) == replace(wanted, items=(), timings_ms={})


@pytest.mark.parametrize("fused", [False, True])
def test_many_requests_are_answered_as_each_alone(reranking: Engine, mixed: list[Request], fused: bool) -> None:
    engine = Engine(with_fusion(reranking.state)) if fused else reranking
    together = answer_many(engine.state, mixed)
    assert len(together) == len(mixed)
    for request, found in zip(mixed, together, strict=True):
        assert_alike(found, engine.answer(request))
    assert any(found.reranked for found in together)
    assert answer_many(engine.state, []) == []


def test_the_order_of_the_requests_is_that_of_the_answers(reranking: Engine, mixed: list[Request]) -> None:
    forth, back = answer_many(reranking.state, mixed), answer_many(reranking.state, mixed[::-1])
    for found, wanted in zip(back[::-1], forth, strict=True):
        assert_alike(found, wanted)


def test_a_cart_with_a_query_changes_no_cart_beside_it(reranking: Engine, data: DataSet) -> None:
    cart = Request(task="complete_cart", history=data.item_ids[3:5], user_id=data.user_ids[2], query="")
    requests = [cart, replace(cart, query="red mug"), replace(cart, query=None)]
    for request, found in zip(requests, answer_many(reranking.state, requests), strict=True):
        assert_alike(found, reranking.answer(request))


def test_requests_that_ask_alike_travel_together(
    engine: Engine, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, run_one = list[int](), pipeline.run

    def counted(state: ReleaseState, batch: Batch, deadline: Deadline | None = None, **ends: Stage) -> Batch:
        sizes.append(len(batch))
        return run_one(state, batch, deadline, **ends)

    monkeypatch.setattr(pipeline, "run", counted)
    users = [Request(user_id=user) for user in data.user_ids[:5]]
    answer_many(engine.state, [users[0], Request(query="red mug"), *users[1:], Request(query="lamp")])
    assert sorted(sizes) == [2, 5]


def test_a_request_goes_through_the_stages_in_their_order(engine: Engine) -> None:
    assert [stage.__name__ for stage in STAGES] == NAMES
    found = engine.search("red mug")
    assert list(found.timings_ms) == NAMES
    assert all(spent >= 0 for spent in found.timings_ms.values())
    deadline = Deadline()
    answer(engine.state, Request(), deadline)
    assert list(deadline.timings_ms) == NAMES


def test_what_is_stopped_after_a_stage_goes_on_from_the_next(reranking: Engine, data: DataSet) -> None:
    requests = LiveRequests([Request(query="red mug", user_id=user) for user in data.user_ids[:3]])
    batch = Batch(requests=requests, task=TASKS["personalised_search"], k=10)
    whole = run(reranking.state, batch)
    for last, first in pairwise(STAGES):
        begun = Deadline()
        stopped = run(reranking.state, batch, begun, until=last)
        assert list(begun.timings_ms) == NAMES[: STAGES.index(last) + 1]
        assert stopped.answers == ()
        ended = Deadline()
        for found, wanted in zip(run(reranking.state, stopped, ended, since=first).answers, whole.answers, strict=True):
            assert_alike(found, wanted)
        assert list(ended.timings_ms) == NAMES[STAGES.index(first) :]


def test_a_stage_alone_is_that_stage(engine: Engine) -> None:
    batch = Batch(requests=LiveRequests([Request(query="red mug")]), task=TASKS["search"])
    found = run(engine.state, batch, since=read_query, until=read_query)
    assert list(found.queries.typed) == ["red mug"]
    assert (len(found.users.gap), found.vectors.size, found.order) == (0, 0, None)


def test_some_of_a_retrieved_batch_are_ranked_as_in_the_whole(reranking: Engine, data: DataSet) -> None:
    requests = LiveRequests([Request(user_id=user) for user in data.user_ids[:6]])
    batch = run(reranking.state, Batch(requests=requests, task=TASKS["recommend_unseen"], k=10), until=retrieve)
    whole = run(reranking.state, batch, since=rank).answers
    part = np.array([4, 1])
    for found, line in zip(run(reranking.state, batch.select(part), since=rank).answers, part, strict=True):
        assert_alike(found, whole[line])


def test_warming_up_asks_every_model(reranking: Engine) -> None:
    state = replace(reranking.state)
    pipeline.warm_up(state)
    assert state.query_vectors._cache


def everyone(engine: Engine, data: DataSet, days: Sequence[int] | None = None) -> PastRequests:
    """A request of some users after their last event, by default as of when the release answers."""
    assert data.events is not None
    users = np.arange(USERS, dtype=np.int32)
    time = engine.state.user_contexts.today[0] * DAY + np.array([0] * USERS if days is None else days) * DAY
    nothing = np.zeros(USERS + 1, np.int64)  # their targets do not matter
    requests = Requests(users, data.events.offsets[1:][users], nothing, users[:0], time)
    return PastEvents.of(engine.state, data.events, engine.state.user_contexts.targets).recommendations(requests)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_past_requests_as_of_now_are_given_what_is_answered_now(
    engine: Engine, data: DataSet, filter_seen: bool, fused: bool
) -> None:
    engine = Engine(with_fusion(engine.state)) if fused else engine
    task = TASKS["recommend_unseen" if filter_seen else "recommend"]
    hits = retrieved(engine.state, everyone(engine, data), task).candidates.hits
    for user, rows, scores in zip(data.user_ids[:USERS], hits.rows, hits.scores, strict=True):
        live = engine.recommend(user_id=user, k=100, filter_seen=filter_seen, rerank=False)
        kept = rows >= 0
        assert ids(live) == [data.item_ids[row] for row in rows[kept]]
        np.testing.assert_allclose([hit.score for hit in live.items], scores[kept], atol=1e-5)


@pytest.mark.parametrize("marked", [False, True])
def test_past_requests_as_of_now_are_reranked_as_live_ones(reranking: Engine, data: DataSet, marked: bool) -> None:
    engine = Engine(with_markers(reranking.state, marked=marked))
    batch = retrieved(engine.state, everyone(engine, data), TASKS["recommend"])
    for user, found in zip(data.user_ids[:USERS], run(engine.state, batch, since=rank).answers, strict=True):
        live = engine.recommend(user_id=user, k=100, filter_seen=False)
        assert live.reranked
        assert_alike(found, live)


@pytest.mark.parametrize("repeats", [True, False])
def test_past_carts_as_of_now_are_completed_as_live_ones(reranking: Engine, data: DataSet, repeats: bool) -> None:
    state, past = reranking.state, everyone(reranking, data)
    part = np.flatnonzero([state.user_contexts.has_taken(user) == repeats for user in data.user_ids[:USERS]])
    assert len(part)
    carts = [list(range(1 + line % 3)) for line in range(len(part))]
    asked = replace(past.select(part), given=CSR.from_lists(carts))
    batch = retrieved(state, asked, cart_task(state, state.filter_seen, repeats=repeats))
    for user, cart, found in zip(part.tolist(), carts, run(state, batch, since=rank).answers, strict=True):
        items = [data.item_ids[row] for row in cart]
        assert_alike(found, reranking.complete_cart(items, user_id=data.user_ids[user], k=100))


def test_past_requests_of_many_days_are_answered_in_the_order_given(engine: Engine, data: DataSet) -> None:
    fusions = FUSIONS | {"recommend": Fusion({"towers": 1.0, "popularity_7d": 2.0})}
    state = with_fusion(engine.state, **fusions)
    asked = everyone(engine, data, -np.random.default_rng(0).permutation(USERS) * 5)
    whole = retrieved(state, asked, TASKS["recommend"]).candidates.hits
    for line in range(USERS):
        (alone,) = retrieved(state, asked.select(np.array([line])), TASKS["recommend"]).candidates.hits.rows
        assert whole.rows[line].tolist() == alone.tolist()
