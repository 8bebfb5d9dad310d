"""Queries as they were typed and as they are read."""

from __future__ import annotations

import pytest

from engine_changes import changed
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.stages.read_query import read, read_query
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import QueriesAlone

TYPED = ["garden chiar", "", "chair"]


@pytest.mark.parametrize("spellcheck", [True, False])
def test_a_query_is_kept_as_typed_beside_what_was_meant(engine: Engine, spellcheck: bool) -> None:
    batch = Batch(requests=QueriesAlone(TYPED), task=TASKS["search"], spellcheck=spellcheck)
    queries = read_query(engine.state, batch, Deadline()).queries
    assert queries.typed == TYPED
    assert queries.corrected == (read(engine.state, TYPED).corrected if spellcheck else TYPED)


def test_each_query_is_corrected_by_itself_and_an_empty_one_stays_empty(engine: Engine) -> None:
    found = read(engine.state, TYPED).corrected
    assert found == [*read(engine.state, TYPED[:1]).corrected, "", *read(engine.state, TYPED[2:]).corrected]


def test_without_the_items_words_nothing_is_corrected(engine: Engine) -> None:
    assert engine.state.spelling is not None
    assert read(changed(engine, spelling=None).state, TYPED).corrected == TYPED
