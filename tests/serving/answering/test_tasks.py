"""What a request asks for: one task, its order, its gate, and what is never answered."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from engine_changes import with_fusion
from retrieval.data.dataset import DataSet
from retrieval.sources.fusion import Fusion
from serving.answering.release_settings import OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.tasks import TASKS, GateName, cart_task, orders_of_gates, task_of
from serving.engine import Engine
from serving.request import Request, TaskName

BUYER = "shopper-00001"


def answering(engine: Engine, *, filter_seen: bool) -> ReleaseState:
    """The state of a release that leaves out what was taken before, or does not."""
    return replace(engine.state, settings=engine.state.settings.model_copy(update={"filter_seen": filter_seen}))


def test_every_task_that_can_be_asked_for_is_there_with_orders_and_gates_that_are_known() -> None:
    assert set(TASKS) == set(get_args(TaskName))
    assert all(name == task.name for name, task in TASKS.items())
    assert {task.order for task in TASKS.values()} - {None} == set(get_args(OrderName))
    assert {task.gate for task in TASKS.values()} - {None} == set(get_args(GateName))


@pytest.mark.parametrize("filter_seen", [True, False])
def test_a_recommendation_leaves_out_what_was_taken_as_asked_or_as_the_release_does(
    engine: Engine, filter_seen: bool
) -> None:
    state = answering(engine, filter_seen=filter_seen)
    default = TASKS["recommend_unseen" if filter_seen else "recommend"]
    for request in (Request(), Request(user_id=BUYER), Request(query="  "), Request(task="search", query="")):
        assert task_of(state, request) == default
    assert task_of(state, Request(filter_seen=True)) == TASKS["recommend_unseen"]
    assert task_of(state, Request(filter_seen=False)) == TASKS["recommend"]
    assert task_of(state, Request(task="recommend_unseen", filter_seen=False)) == TASKS["recommend_unseen"]


@pytest.mark.parametrize("filter_seen", [True, False])
def test_a_search_leaves_out_what_was_taken_only_if_it_is_asked_to(engine: Engine, filter_seen: bool) -> None:
    state = answering(engine, filter_seen=filter_seen)
    assert task_of(state, Request(query="mug")) == TASKS["search"]
    assert task_of(state, Request(query="mug", user_id=BUYER)) == TASKS["personalised_search"]
    assert task_of(state, Request(query="mug", history=[])) == TASKS["personalised_search"]
    assert task_of(state, Request(query="mug", user_id=BUYER, filter_seen=True)).excludes_taken
    assert not TASKS["personalised_search"].excludes_taken


@pytest.mark.parametrize("filter_seen", [True, False])
def test_a_cart_goes_on_in_the_order_of_new_things_for_who_never_took_any(
    engine: Engine, data: DataSet, filter_seen: bool
) -> None:
    state = with_fusion(answering(engine, filter_seen=filter_seen))
    assert data.events is not None
    buyers = set(data.events.user[data.events.is_kind(state.settings.targets)].tolist())
    users = [(user, at in buyers) for at, user in enumerate(data.user_ids[:20])]
    assert {repeats for _, repeats in users} == {True, False}
    for user, repeats in (*users, ("nobody", False), (None, False)):
        assert state.user_contexts.has_taken(user) == repeats
        task = task_of(state, Request(task="complete_cart", user_id=user, history=[data.item_ids[0]]))
        assert task == cart_task(state, state.filter_seen, repeats=repeats)
        assert task.order == ("recommend" if repeats else "recommend_unseen")
        assert (task.gate, task.excludes_given, task.excludes_taken) == ("complete_cart", True, filter_seen)
        asked = Request(task="complete_cart", user_id=user, history=[data.item_ids[0]], filter_seen=not filter_seen)
        assert task_of(state, asked) == replace(task, excludes_taken=not filter_seen)


def test_a_cart_goes_on_in_its_own_order_where_there_is_one(engine: Engine, data: DataSet) -> None:
    state = with_fusion(engine.state, complete_cart=Fusion({"towers": 1.0, "same_basket": 2.0}))
    for user in (BUYER, None):
        task = task_of(state, Request(task="complete_cart", user_id=user, history=[data.item_ids[0]]))
        assert task == replace(TASKS["complete_cart"], excludes_taken=state.filter_seen)
    assert orders_of_gates({"complete_cart"}, state.retriever.fusions) == {"complete_cart"}
    assert orders_of_gates({"complete_cart"}, {"recommend"}) == {"recommend"}
    assert orders_of_gates({"search", "recommend"}, {}) == {"search", "recommend"}


def test_similar_items_are_those_of_the_towers_alone(engine: Engine, data: DataSet) -> None:
    task = task_of(engine.state, Request(task="similar", history=[data.item_ids[0]]))
    assert task == TASKS["similar"]
    assert (task.order, task.gate, task.by_content) == (None, None, True)
    assert task.excludes_given
    assert not task.excludes_taken
