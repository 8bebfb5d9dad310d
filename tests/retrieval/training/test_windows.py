"""Training windows: what each moment of a history is asked to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.timeline import Timeline
from retrieval.training.windows import Windows

Steps: TypeAlias = Sequence[Sequence[tuple[int, ...]]]
Story: TypeAlias = Callable[[Steps], Events]
PURCHASE, VIEW = 0, 1
STEP = st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2), st.integers(-1, 1), st.integers(-1, 2))
USERS = st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=4)


def first_events(events: Events, keep: Sequence[int]) -> NDArray[np.bool_]:
    """The first `keep[u]` events of each user."""
    nth = np.arange(len(events)) - events.offsets[events.user]
    return nth < np.asarray(keep)[events.user]


def build(events: Events, keep: Sequence[int] | None = None, longest: int = 50) -> Windows:
    train = np.ones(len(events), bool) if keep is None else first_events(events, keep)
    return Windows.build(events, train, events.is_kind(["purchase"]), longest)


def told(windows: Windows) -> list[tuple[int | str, list[int]]]:
    """For each position, in order: the item (or `q` and the query), and what is asked for after it."""
    timeline = windows.timeline
    asked = [windows.requests.select(np.array([row])).rows.tolist() if row >= 0 else [] for row in windows.follows]
    names = [int(item) if item >= 0 else f"q{query}" for item, query in zip(timeline.item, timeline.query, strict=True)]
    return list(zip(names, asked, strict=True))


def baskets(events: Events, target: NDArray[np.bool_]) -> list[list[int]]:
    """Target events that one time or one basket of a user joins, by joining whatever touches until nothing does."""
    groups = [[int(at)] for at in np.flatnonzero(target)]
    if not events.has_baskets:
        return groups

    def touch(left: list[int], right: list[int]) -> bool:
        return any(
            events.user[a] == events.user[b]
            and (events.time[a] == events.time[b] or events.basket[a] == events.basket[b] >= 0)
            for a in left
            for b in right
        )

    for _ in range(len(groups)):
        for i, group in enumerate(groups):
            for other in groups[i + 1 :]:
                if touch(group, other):
                    group += other
                    groups.remove(other)
    return sorted(sorted(group) for group in groups)


def expected(events: Events, train: NDArray[np.bool_], target: NDArray[np.bool_]) -> list[list[int]]:
    """What each position should be asked for, moment by moment."""
    groups = baskets(events, target)
    instant = list(zip(events.user.tolist(), events.time.tolist(), strict=True))
    ends = [instant.index(instant[group[0]]) if events.has_baskets else group[0] for group in groups]

    def after(user: int, behind: int) -> list[int]:
        """What comes next for a user with the events before `behind` behind them."""
        if any(end < behind <= group[-1] for end, group in zip(ends, groups, strict=True)):
            return []
        later = [g for g, group in enumerate(groups) if events.user[group[0]] == user and ends[g] >= behind]
        return sorted({int(events.item[e]) for e in groups[later[0]]}) if later else []

    out, before = [], (-1, -1)
    for e in range(len(events)):
        user, query = int(events.user[e]), int(events.query[e])
        if query >= 0 and (user, query) != before:
            out.append(after(user, e) if train[e] else [])
        before = (user, query)
        out.append(after(user, e + 1) if train[e] else [])
    return out


@settings(max_examples=100, deadline=None)
@given(users=USERS, data=st.data())
def test_every_moment_is_followed_by_its_own_next_request(
    make_events: Story, users: Steps, data: st.DataObject
) -> None:
    events = make_events(users)
    keep = [data.draw(st.integers(0, len(steps))) for steps in users]
    train = first_events(events, keep)
    found = [asked for _, asked in told(build(events, keep))]
    assert found == expected(events, train, train & (events.kind == PURCHASE))


@settings(max_examples=60, deadline=None)
@given(users=USERS, data=st.data(), longest=st.integers(1, 5))
def test_windows_hold_the_training_events_once_and_nothing_else(
    make_events: Story, users: Steps, data: st.DataObject, longest: int
) -> None:
    events = make_events(users)
    keep = [data.draw(st.integers(0, len(steps))) for steps in users]
    windows, train = build(events, keep, longest), first_events(events, keep)
    read = [np.arange(start, stop) for start, stop in zip(windows.start, windows.stop, strict=True)]
    assert all(1 <= len(positions) <= longest for positions in read)
    flat = np.concatenate([np.empty(0, np.int64), *read])
    assert len(np.unique(flat)) == len(flat)
    event_of = np.repeat(np.arange(len(events)), np.diff(Timeline.from_events(events)[1]))
    assert train[event_of[flat]].all()
    assert set(np.flatnonzero(windows.follows >= 0)) <= set(flat.tolist())
    for user, stop, positions in zip(windows.user, windows.stop, read, strict=True):
        batch = windows.timeline.batch(np.array([user]), np.array([stop]), longest)
        np.testing.assert_array_equal(batch.items[batch.present], windows.timeline.item[positions])


def test_every_prefix_has_its_own_next_purchase_as_target(make_events: Story) -> None:
    windows = build(make_events([[(1, PURCHASE, 0), (2, VIEW, 1), (3, PURCHASE, 1)], [(4, PURCHASE, 0)]]))
    assert told(windows) == [(1, [3]), (2, [3]), (3, []), (4, [])]
    assert windows.user.tolist() == [0]  # the second shopper teaches nothing


def test_what_lies_outside_the_training_events_is_neither_read_nor_a_target(make_events: Story) -> None:
    windows = build(make_events([[(1, PURCHASE, 0), (2, PURCHASE, 1), (3, PURCHASE, 1), (4, PURCHASE, 1)]]), keep=[2])
    assert told(windows) == [(1, [2]), (2, []), (3, []), (4, [])]
    assert (windows.start.tolist(), windows.stop.tolist()) == ([0], [2])
    assert windows.liked.rows.tolist() == [1, 2]
    assert windows.requests.rows.tolist() == [1, 2]


def test_a_basket_is_told_once_and_names_no_item_twice(make_events: Story) -> None:
    steps = [(9, PURCHASE, 0, -1, 0), (3, PURCHASE, 5, -1, 1), (2, PURCHASE, 0, -1, 1), (3, PURCHASE, 1, -1, 1)]
    windows = build(make_events([[*steps, (7, PURCHASE, 9, -1, 2)]]))
    assert told(windows) == [(9, [2, 3]), (3, []), (2, []), (3, [7]), (7, [])]


def test_what_happened_at_the_instant_of_a_basket_is_not_before_it(make_events: Story) -> None:
    windows = build(make_events([[(1, VIEW, 0), (2, VIEW, 3), (5, PURCHASE, 0, -1, 0), (6, PURCHASE, 1, -1, 1)]]))
    assert told(windows) == [(1, [5]), (2, []), (5, [6]), (6, [])]


def test_a_query_is_placed_before_its_event_and_asked_for_what_it_led_to(make_events: Story) -> None:
    windows = build(make_events([[(1, PURCHASE, 0), (2, VIEW, 1, 0), (3, PURCHASE, 1, 0), (4, PURCHASE, 1, 1)]]))
    assert told(windows) == [(1, [3]), ("q0", [3]), (2, [3]), (3, [4]), ("q1", [4]), (4, [])]


def test_a_query_inside_a_basket_does_not_tell_the_basket_again(make_events: Story) -> None:
    steps = [(2, PURCHASE, 0, 0, 5), (3, PURCHASE, 1, 1, 5), (4, PURCHASE, 1, -1, 6)]
    assert told(build(make_events([steps]))) == [("q0", [2, 3]), (2, []), ("q1", []), (3, [4]), (4, [])]


def test_a_long_history_is_cut_into_windows_from_its_end(make_events: Story) -> None:
    windows = build(make_events([[(item % 6, PURCHASE, 1) for item in range(8)]]), longest=3)
    assert sorted(zip(windows.start.tolist(), windows.stop.tolist(), strict=True)) == [(0, 2), (2, 5), (5, 8)]


def test_a_window_in_which_nothing_is_asked_is_left_out(make_events: Story) -> None:
    windows = build(make_events([[(1, PURCHASE, 0), (2, PURCHASE, 1), *[(3, VIEW, 1)] * 4]]), longest=2)
    assert (windows.start.tolist(), windows.stop.tolist()) == ([0], [2])


def test_without_any_target_there_is_no_window(make_events: Story) -> None:
    for basket in (-1, 0):
        windows = build(make_events([[(1, VIEW, 0, -1, basket), (2, VIEW, 1, -1, basket)], []]))
        assert len(windows.user) == 0
        assert windows.requests.n_lists == 0
        assert windows.liked.indptr.tolist() == [0, 0, 0]


def test_what_an_item_of_a_request_counts_is_the_most_that_its_events_do(make_events: Story) -> None:
    events = make_events([[(4, 0, 1), (2, 1, 1), (4, 1, 1), (3, 1, 5)]])
    every = np.ones(len(events), bool)
    counts = np.where(events.kind == PURCHASE, 1.0, 0.25).astype(np.float32)
    found = Windows.build(events, every, counts, 50)
    assert len(found.weight) == len(found.requests.rows)
    weight_of = dict(zip(found.requests.rows.tolist(), found.weight.tolist(), strict=True))
    assert weight_of[2] == weight_of[3] == 0.25
    nothing = Windows.build(events, every, np.where(events.kind == PURCHASE, 1.0, 0.0).astype(np.float32), 50)
    assert nothing.requests.rows.tolist() == [4]
