"""What each user did, in order: positions, batches of histories, items before a moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.events import Events
from retrieval.data.time_units import HOUR
from retrieval.data.timeline import GAP_BUCKETS, QUERY_KIND, Timeline

Steps: TypeAlias = Sequence[Sequence[tuple[int, ...]]]
Story: TypeAlias = Callable[[Steps], Events]

EVENT = st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 40), st.integers(-1, 2))
USERS = st.lists(st.lists(EVENT, max_size=7), min_size=1, max_size=5)


def told(events: Events, user: int, end: int) -> list[tuple[int, int, str, int]]:
    """(item, query, kind, time) of what stands before the event `end` of a user, one step at a time."""
    out: list[tuple[int, int, str, int]] = []
    before = -1
    for i in range(int(events.offsets[user]), end):
        if events.query[i] >= 0 and events.query[i] != before:
            out.append((-1, int(events.query[i]), QUERY_KIND, int(events.time[i])))
        before = int(events.query[i])
        out.append((int(events.item[i]), -1, events.kinds[events.kind[i]], int(events.time[i])))
    return out


def every_moment(events: Events) -> list[tuple[int, int]]:
    """Each user with each event before which a history may end."""
    return [
        (user, end)
        for user in range(len(events.offsets) - 1)
        for end in range(int(events.offsets[user]), int(events.offsets[user + 1]) + 1)
    ]


@settings(max_examples=60, deadline=None)
@given(users=USERS, longest=st.integers(1, 6))
def test_a_batch_equals_a_naive_loop(make_events: Story, users: Steps, longest: int) -> None:
    events = make_events(users)
    timeline, position = Timeline.from_events(events)
    moments = every_moment(events)
    ends = position[np.array([end for _, end in moments])]
    batch = timeline.batch(np.array([user for user, _ in moments]), ends, longest)
    for i, (user, end) in enumerate(moments):
        story = told(events, user, end)
        recent = story[-longest:]
        assert batch.present[i].sum() == len(recent)
        for back in range(1, batch.items.shape[1] + 1):
            step = tuple(int(column[i, -back]) for column in batch)
            if back > len(recent):
                assert step == (-1, -1, 0, 0, 0)
                continue
            item, query, kind, time = recent[-back]
            earlier = story[-back - 1][3] if back < len(story) else time
            gap = min(GAP_BUCKETS - 1, int(math.log2(1 + (time - earlier) / HOUR)))
            assert step == (item, query, timeline.kinds.index(kind) + 1, gap, 1)


@settings(max_examples=60, deadline=None)
@given(users=USERS, kinds=st.none() | st.lists(st.integers(0, 2), max_size=2))
def test_items_before_equal_a_naive_loop(make_events: Story, users: Steps, kinds: list[int] | None) -> None:
    events = make_events(users)
    timeline, position = Timeline.from_events(events)
    moments = every_moment(events)
    ends = position[np.array([end for _, end in moments])]
    found = timeline.items_before(np.array([user for user, _ in moments]), ends, kinds)
    wanted = [name for code, name in enumerate(timeline.kinds) if kinds is None or code in kinds]
    for i, (user, end) in enumerate(moments):
        expected = [item for item, _, kind, _ in told(events, user, end) if item >= 0 and kind in wanted]
        assert found.rows[found.indptr[i] : found.indptr[i + 1]].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(users=USERS, taken=st.lists(st.integers(0, 2), max_size=2))
def test_items_left_equal_a_naive_loop(make_events: Story, users: Steps, taken: list[int]) -> None:
    events = make_events(users)
    timeline, position = Timeline.from_events(events)
    moments = every_moment(events)
    ends = position[np.array([end for _, end in moments])]
    found = timeline.items_browsed(np.array([user for user, _ in moments]), ends, taken)
    for i, (user, end) in enumerate(moments):
        last = dict[int, str]()
        for item, _, kind, _ in told(events, user, end):
            if item >= 0:
                last.pop(item, None)
                last[item] = kind
        expected = [item for item, kind in last.items() if timeline.kinds.index(kind) not in taken]
        assert found.rows[found.indptr[i] : found.indptr[i + 1]].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(users=USERS, taken=st.lists(st.integers(0, 2), max_size=2), carts=st.lists(st.integers(0, 2), max_size=2))
def test_items_carted_equal_a_naive_loop(make_events: Story, users: Steps, taken: list[int], carts: list[int]) -> None:
    events = make_events(users)
    timeline, position = Timeline.from_events(events)
    moments = every_moment(events)
    ends = position[np.array([end for _, end in moments])]
    found = timeline.items_carted(np.array([user for user, _ in moments]), ends, carts, taken)
    for i, (user, end) in enumerate(moments):
        cart = list[int]()
        for item, _, kind, _ in told(events, user, end):
            code = timeline.kinds.index(kind)
            if item >= 0 and code in {*taken, *carts}:
                cart = [other for other in cart if other != item] + [item] * (code not in taken)
        assert found.rows[found.indptr[i] : found.indptr[i + 1]].tolist() == cart


def test_what_was_given_back_is_not_in_the_cart(make_events: Story) -> None:
    timeline, _ = Timeline.from_events(make_events([[(1, 0, 1), (2, 0, 1), (1, 1, 1)]]))
    renamed = replace(timeline, kinds=tuple("Refund" if kind == "view" else kind for kind in timeline.kinds))
    assert renamed.items_carted(np.array([0]), np.array([3]), [0], []).rows.tolist() == [2]


def test_what_was_given_back_is_not_taken(make_events: Story) -> None:
    bought_twice = [(1, 0, 1), (2, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 0, 1), (3, 1, 1), (3, 0, 1)]
    timeline, _ = Timeline.from_events(make_events([bought_twice, [(2, 0, 1)]]))
    renamed = replace(timeline, kinds=tuple("Refund" if kind == "view" else kind for kind in timeline.kinds))
    users, ends = np.array([0, 0, 0, 0, 1]), np.array([3, 4, 6, 9, 10])
    found = renamed.items_taken(users, ends, [0])
    lists = [part.tolist() for part in np.split(found.rows, found.indptr[1:-1])]
    assert lists == [[1, 2, 1], [1, 2], [1], [1, 1, 3], [2]]
    assert timeline.items_taken(users, ends, [0]).rows.tolist() == timeline.items_before(users, ends, [0]).rows.tolist()


def test_what_was_given_back_is_not_left_over(make_events: Story) -> None:
    events = make_events([[(1, 1, 0), (2, 0, 1)]])
    timeline, _ = Timeline.from_events(events)
    renamed = replace(timeline, kinds=tuple("Refund" if kind == "view" else kind for kind in timeline.kinds))
    user, end = np.array([0]), np.array([2])
    assert timeline.items_browsed(user, end, []).rows.tolist() == [1, 2]
    assert renamed.items_browsed(user, end, []).rows.tolist() == [2]


def test_no_moments_have_no_items_before(make_events: Story) -> None:
    timeline, _ = Timeline.from_events(make_events([[(1, 0, 1, -1)]]))
    none = timeline.items_before(np.empty(0, np.int64), np.empty(0, np.int64))
    assert none.n_lists == 0
    assert len(none.rows) == 0


def test_a_query_stands_once_before_the_events_that_it_led_to(make_events: Story) -> None:
    timeline, position = Timeline.from_events(make_events([[(4, 1, 0, 2), (5, 0, 1, 2)], [(3, 0, 0, 2)]]))
    assert timeline.query.tolist() == [2, -1, -1, 2, -1]
    assert timeline.item.tolist() == [-1, 4, 5, -1, 3]
    assert [timeline.kinds[kind] for kind in timeline.kind] == ["query", "view", "purchase", "query", "purchase"]
    assert position.tolist() == [0, 2, 3, 5]
    assert timeline.offsets.tolist() == [0, 3, 5]


def test_a_history_never_reaches_into_the_user_before(make_events: Story) -> None:
    timeline, position = Timeline.from_events(make_events([[(1, 0, 0, -1), (2, 0, 900, -1)], [(3, 0, 5, -1)]]))
    batch = timeline.batch(np.array([1]), position[[3]], 10)
    assert batch.items[batch.present].tolist() == [3]
    assert batch.gaps[batch.present].tolist() == [0]


@pytest.mark.parametrize(
    ("hours", "bucket"), [(0, 0), (0.9, 0), (1, 1), (2.9, 1), (3, 2), (24, 4), (24 * 365, 13), (24 * 365 * 50, 15)]
)
def test_the_gap_is_a_bucket_of_hours_since_the_event_before(make_events: Story, hours: float, bucket: int) -> None:
    events = make_events([[(1, 1, 0), (2, 0, 1)]])
    events.time[1] = int(hours * HOUR)
    timeline, position = Timeline.from_events(events)
    assert timeline.batch(np.array([0]), position[[2]], 5).gaps[0, -1] == bucket


def test_recoded_kinds_carry_their_name_and_unknown_ones_become_code_zero_of_a_batch(make_events: Story) -> None:
    timeline, position = Timeline.from_events(make_events([[(1, 0, 0, -1), (2, 1, 1, 0)]]))
    known = timeline.recoded(("cart", QUERY_KIND, "purchase"))
    batch = known.batch(np.array([0]), position[[2]], 5)
    assert batch.kinds.tolist() == [[3, 2, 0]]  # purchase, query, view
    assert batch.present.all()


def test_recoding_twice_keeps_what_is_unknown_unknown(make_events: Story) -> None:
    timeline, position = Timeline.from_events(make_events([[(1, 0, 0, -1), (2, 1, 1, -1)]]))
    twice = timeline.recoded((QUERY_KIND, "purchase")).recoded(("purchase", QUERY_KIND))
    assert twice.batch(np.array([0]), position[[2]], 5).kinds.tolist() == [[1, 0]]


def test_a_shop_with_an_event_of_its_own_named_query_has_one_such_kind(make_events: Story) -> None:
    events = replace(make_events([[(1, 0, 0, 0), (2, 1, 1, -1)]]), kinds=("purchase", QUERY_KIND))
    timeline, position = Timeline.from_events(events)
    assert timeline.kinds == ("purchase", QUERY_KIND)
    assert timeline.batch(np.array([0]), position[[2]], 5).kinds.tolist() == [[2, 1, 2]]


def test_recoding_to_the_same_kinds_changes_nothing(make_events: Story) -> None:
    timeline, position = Timeline.from_events(make_events([[(1, 0, 0, -1), (2, 1, 1, 0)]]))
    again = timeline.recoded(timeline.kinds)
    for left, right in zip(
        timeline.batch(np.array([0]), position[[2]], 5), again.batch(np.array([0]), position[[2]], 5), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_the_newest_query_of_the_hour_before_is_found(make_events: Story) -> None:
    events = make_events([[(0, 0, 0, 1), (1, 0, 1, -1), (2, 0, 600, -1), (3, 0, 1, 2)], [(4, 0, 0, -1)]])
    timeline, position = Timeline.from_events(events)
    users, ends = np.array([0, 0, 0, 0, 1]), position[:-1]
    found = timeline.last_query_before(users, ends, events.time, HOUR)
    assert np.where(found >= 0, timeline.query[found], -1).tolist() == [1, 1, -1, 2, -1]
    assert timeline.query[timeline.last_query_before(users, ends, events.time, 700 * HOUR)[2]] == 1


def test_a_query_stands_behind_what_was_done_and_alone_is_nothing(make_events: Story) -> None:
    events = make_events([[(0, 0, 0, -1), (1, 0, 5, -1)], [(2, 0, 0, -1)]])
    timeline, position = Timeline.from_events(events)
    batch = timeline.batch(np.array([0, 1]), np.array([position[2], position[2]]), 3)  # the second: nothing yet
    asked = batch.with_query(np.array([7, 7]), 4, np.array([2, 2]))
    assert asked.items[:, :-1].tolist() == batch.items.tolist()
    assert [column[0, -1].item() for column in asked] == [-1, 7, 4, 2, True]
    assert [column[1, -1].item() for column in asked] == [-1, -1, 0, 0, False]
