"""Live requests: many users at once are read as each is alone."""

from __future__ import annotations

import numpy as np
import pytest
from same_contexts import assert_same_contexts

from retrieval.data.dataset import DataSet
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.stages.read_user import LiveRequests, read_user
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.request import Request


@pytest.fixture(scope="module")
def requests(data: DataSet) -> list[Request]:
    """Known users with long and short histories, strangers, given items and carts."""
    items = list(data.item_ids)
    return [
        Request(user_id=data.user_ids[0]),
        Request(),
        Request(history=items[:9], query=" red\tmug "),
        Request(user_id="nobody", query="lamp"),
        Request(task="complete_cart", user_id=data.user_ids[1], history=[items[3], "no such item"]),
        Request(task="complete_cart", history=[]),
        Request(history=["no such item"], query="\x00"),
        Request(user_id=data.user_ids[2], history=items[:1]),
    ]


def test_many_users_are_read_as_each_is_alone(engine: Engine, requests: list[Request]) -> None:
    asked = LiveRequests(requests)
    batch = read_user(engine.state, Batch(requests=asked, task=TASKS["recommend"]), Deadline())
    assert len(batch) == len(requests)
    for line, request in enumerate(requests):
        alone = engine.state.user_contexts.of_request(request)
        assert_same_contexts(batch.users.select(np.array([line])), alone)


def test_given_items_stand_in_for_the_users_own(engine: Engine, data: DataSet, requests: list[Request]) -> None:
    reader = engine.state.user_contexts
    assert_same_contexts(reader.of_request(requests[-1]), reader.of_request(Request(history=data.item_ids[:1])))


def test_some_of_the_requests_are_those_requests(engine: Engine, requests: list[Request]) -> None:
    asked, part = LiveRequests(requests), np.array([3, 0, 2])
    assert asked.select(part).requests == [requests[3], requests[0], requests[2]]
    assert asked.texts == ["", "", "red mug", "lamp", "", "", "", ""]
    assert_same_contexts(asked.select(part).users(engine.state), asked.users(engine.state).select(part))
