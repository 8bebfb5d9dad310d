"""What may be answered: taken and given items are left out as the task says, filters hold for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from same_contexts import lists_of

from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from retrieval.topk import CSR
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.pipeline import run
from serving.answering.stages.permit import permit
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS, Task
from serving.engine import Engine
from serving.request import Request


@pytest.fixture(scope="module")
def requests(data: DataSet) -> LiveRequests:
    return LiveRequests(
        [
            Request(task="complete_cart", user_id=user, history=list(data.item_ids[:n]))
            for user, n in zip((*data.user_ids[:3], "nobody"), (2, 0, 3, 1), strict=True)
        ]
    )


def excluded(engine: Engine, requests: LiveRequests, task: Task) -> CSR | None:
    return run(engine.state, Batch(requests=requests, task=task), until=permit).exclude


def test_each_task_leaves_out_what_it_says(engine: Engine, requests: LiveRequests) -> None:
    users = requests.users(engine.state)
    taken, given = lists_of(users.taken), lists_of(users.given)
    assert any(taken)
    assert excluded(engine, requests, TASKS["recommend"]) is None
    for task, wanted in (
        (TASKS["recommend_unseen"], taken),
        (TASKS["similar"], given),
        (replace(TASKS["complete_cart"], excludes_taken=True), [a + b for a, b in zip(taken, given, strict=True)]),
    ):
        found = excluded(engine, requests, task)
        assert found is not None
        assert [set(rows) for rows in lists_of(found)] == [set(rows) for rows in wanted]


def test_where_nothing_was_taken_nothing_is_left_out(engine: Engine) -> None:
    strangers = LiveRequests([Request(user_id="nobody"), Request()])
    assert excluded(engine, strangers, TASKS["recommend_unseen"]) is None


def test_filters_allow_the_rows_that_they_are_true_of(engine: Engine, requests: LiveRequests) -> None:
    state = engine.state
    prices = np.array(state.version.values_at("price", np.arange(state.version.size)).to_pylist(), float)
    limit = float(np.nanmedian(prices))
    batch = Batch(requests=requests, task=TASKS["recommend"])
    assert permit(state, batch, Deadline()).allowed is None
    allowed = permit(state, replace(batch, filters=[("price", "<", limit)]), Deadline()).allowed
    assert allowed is not None
    assert allowed.tolist() == (prices < limit).tolist()
    assert permit(state, replace(batch, filters=[("price", "<", limit)]), Deadline()).allowed is allowed
    state.forget()
    assert permit(state, replace(batch, filters=[("price", "<", limit)]), Deadline()).allowed is not allowed
    with pytest.raises(BadRequest, match="colour"):
        permit(state, replace(batch, filters=[("colour", "=", "red")]), Deadline())
