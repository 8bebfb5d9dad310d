"""Histories that come with a request: item ids, or events with their kinds and times, read as stored ones are."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from same_contexts import assert_same_contexts, events_read, lists_of

from retrieval.data.dataset import DataSet
from retrieval.data.time_units import DAY, HOUR
from retrieval.errors import BadRequest
from serving.answering.user_reader import UserContextReader
from serving.engine import Engine
from serving.request import GivenEvent, Request

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MICROSECONDS = int(NOON.timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def reader(engine: Engine) -> UserContextReader:
    return engine.state.user_contexts


@pytest.mark.parametrize(
    "when",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=3))),
        "2026-01-31T12:00",
        "2026-01-31 12:00:00",
        "2026-01-31T15:00+03:00",
        "2026-01-31T12:00Z",
        int(NOON.timestamp()),
        NOON.timestamp(),
    ],
)
def test_a_time_is_a_datetime_a_text_or_seconds(when: object) -> None:
    assert Request(history=[("i1", "view", when)]).events == (GivenEvent("i1", "view", MICROSECONDS),)


def test_ids_and_events_may_be_mixed_and_come_as_json() -> None:
    fields = json.loads('{"history": ["i1", ["i2", "view", 0.5], ["i3", null, null]]}')
    wanted = (GivenEvent("i1"), GivenEvent("i2", "view", 500_000), GivenEvent("i3"))
    assert Request.of(fields).events == wanted
    assert Request(history=()).events == Request().events == ()


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("i1", "give a list of strings"),
        (3, "give a list of strings"),
        ([3], "history holds 3; give item ids, or"),
        ([("i1", "view")], r"history holds \('i1', 'view'\)"),
        ([(1, "view", 0)], "give item ids, or"),
        ([("i1", 2, 0)], "holds the event 2 of i1; give its kind"),
        ([("i1", "view", "yesterday")], "holds the time 'yesterday' of i1; give a datetime"),
        ([("i1", "view", 1_769_860_800_000)], "holds the time 1769860800000 of i1"),
        ([("i1", "view", -1)], "holds the time -1"),
        ([("i1", "view", True)], "holds the time True"),
        ([("i1", "view", float("nan"))], "holds the time nan"),
        ([("i1", "view", [])], r"holds the time \[\]"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(history: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        Request(history=history)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", ["complete_cart", "similar"])
def test_carts_and_examples_are_item_ids_alone(task: Any) -> None:
    with pytest.raises(BadRequest, match=f"{task} is asked with item ids alone"):
        Request(task=task, history=[("i1", "view", 0)])


def test_the_events_of_a_stored_user_are_read_as_the_users_own(reader: UserContextReader, data: DataSet) -> None:
    timeline, compared = reader.store.timeline, 0
    for user in range(len(data.user_ids)):
        part = slice(timeline.offsets[user], timeline.offsets[user + 1])
        if (timeline.query[part] >= 0).any() or part.stop == part.start:
            continue  # a query that led to an event is not part of a given history
        columns = (column[part].tolist() for column in (timeline.item, timeline.kind, timeline.time))
        given = [
            (data.item_ids[item], timeline.kinds[kind], time / 1e6) for item, kind, time in zip(*columns, strict=True)
        ]
        found, wanted = reader.of_request(Request(history=given)), reader.of_user(data.user_ids[user])
        assert lists_of(found.given) == [[data.item_ids.index(item) for item, _, _ in given]]
        assert_same_contexts(replace(found, given=wanted.given), wanted)
        for name in ("kinds", "times"):
            assert getattr(found.events, name).tolist() == getattr(wanted.events, name).tolist()
        assert found.now.tolist() == wanted.now.tolist()
        compared += 1
    assert compared >= 5


def test_what_was_given_as_looked_at_is_not_taken(reader: UserContextReader, data: DataSet) -> None:
    items = data.item_ids[:3]
    found = reader.of_request(Request(history=[(items[0], "view", 5), (items[1], "cart", 6), items[2]]))
    assert lists_of(found.taken) == lists_of(found.behaviour.taken) == [[2]]
    assert lists_of(found.behaviour.browsed) == [[0, 1]]
    assert lists_of(found.behaviour.carted) == [[1]]
    assert lists_of(found.behaviour.history) == [[0, 1, 2]]


def test_an_unknown_kind_is_an_event_of_no_kind(reader: UserContextReader, data: DataSet) -> None:
    found = reader.of_request(Request(history=[(data.item_ids[4], "telephoned", 5)]))
    assert found.events.kinds.tolist() == [-1]
    assert events_read(found.histories)[0][0][2] == 0
    assert not found.taken.rows.size


def test_an_event_without_a_time_happened_with_the_one_before_it(reader: UserContextReader, data: DataSet) -> None:
    hour, items = HOUR // 1_000_000, data.item_ids
    history = [items[0], (items[1], "view", 10 * hour), (items[2], "view", None), (items[3], "view", 4 * hour)]
    found = reader.of_request(Request(history=history))
    assert found.events.items.rows.tolist() == [3, 0, 1, 2]  # in the order of time
    assert found.events.times.tolist() == [4 * HOUR, 10 * HOUR, 10 * HOUR, 10 * HOUR]
    assert lists_of(found.given) == [[0, 1, 2, 3]]  # as it came


def test_a_request_is_as_late_as_its_newest_event_and_never_before_the_release(
    reader: UserContextReader, data: DataSet
) -> None:
    today = int(reader.today[0]) * DAY
    later = today + 5 * DAY + HOUR
    for given, now in ((0, today), (later, later)):
        found = reader.of_request(Request(history=[(data.item_ids[0], "view", given // 1_000_000)]))
        assert found.now.tolist() == [now]
        assert found.behaviour.day.tolist() == reader.today.tolist()  # of other shoppers nothing newer is known
    assert found.gap.tolist() == [0]


def test_events_change_the_answer_and_the_order_of_ids_alone_does_as_before(engine: Engine, data: DataSet) -> None:
    items = data.item_ids
    ids = engine.recommend(history=items[:4], filter_seen=True, k=200)
    looked = engine.recommend(history=[(item, "view", None) for item in items[:4]], filter_seen=True, k=200)
    assert not {hit.item_id for hit in ids.items} & set(items[:4])
    assert {hit.item_id for hit in looked.items} >= set(items[:4])
    assert np.isfinite([hit.score for hit in looked.items]).all()
