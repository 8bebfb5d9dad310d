"""Ways out of a stage: what fails there, too, is told, and a fault of the caller stays the caller's."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import cast

import pytest

from retrieval.errors import BadRequest
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline, StageTimes
from serving.answering.in_time.otherwise import InTime, Otherwise
from serving.answering.release_state import ReleaseState
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS

BATCH = Batch(requests=LiveRequests([]), task=TASKS["recommend"])


def broken(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    raise OSError("the index is gone")


def broken_way(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    raise RuntimeError("the source is broken")


def refusing(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    raise BadRequest("no such column")


def popular(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    return batch


def state() -> ReleaseState:
    return cast("ReleaseState", SimpleNamespace(stage_times=StageTimes()))


def test_a_way_out_that_fails_gives_way_to_the_next_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    ways = (Otherwise(part="sources", without=broken_way), Otherwise(part="retrieval", without=popular))
    stages, release = InTime({broken: ways}, (broken,)), state()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert stages.run(broken, release, BATCH, Deadline()).degraded == ("retrieval: failed",)
    assert [record.message for record in caplog.records] == [
        "broken fails and is left out: OSError('the index is gone')",
        "broken without sources fails, too: RuntimeError('the source is broken')",
    ]


def test_a_fault_of_the_caller_is_raised_by_a_way_out_as_by_a_stage() -> None:
    ways = (Otherwise(part="sources", without=refusing), Otherwise(part="retrieval", without=popular))
    with pytest.raises(BadRequest, match="no such column"):
        InTime({broken: ways}, (broken,)).run(broken, state(), BATCH, Deadline())


def test_where_no_way_out_is_left_the_error_of_the_stage_is_raised() -> None:
    with pytest.raises(OSError, match="the index is gone"):
        InTime({broken: (Otherwise(part="sources", without=broken_way),)}, (broken,)).run(
            broken, state(), BATCH, Deadline()
        )
