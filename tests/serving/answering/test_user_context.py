"""What is known of users when they ask: event by event as of a moment, many at once as one by one, carts at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from same_contexts import assert_same_contexts, events_read, lists_of

from retrieval.data.dataset import DataSet
from retrieval.data.events import Events
from retrieval.data.time_units import DAY, HOUR
from retrieval.data.timeline import Timeline, gap_buckets
from retrieval.topk import CSR
from serving.answering.user_context import UserContexts, contexts_at, items_batch
from serving.engine import Engine
from serving.request import Request

PURCHASE = 0
LONGEST = 4
Steps = tuple[int, ...]


@pytest.fixture(scope="module")
def timeline(make_events: Callable[..., Events]) -> Timeline:
    """Eight users with up to eleven events, some of which a query led to."""
    random = np.random.default_rng(0)

    def steps(n: int) -> list[Steps]:
        return [tuple(map(int, random.integers((0, 0, 0, -1), (6, 2, 60, 3)))) for _ in range(n)]

    return Timeline.from_events(make_events([steps(n) for n in (11, 1, 5, 0, 7, 2, 9, 3)]))[0]


def at_moments(timeline: Timeline) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every user at every position of their own, an hour to four days after the event before."""
    sizes = np.diff(timeline.offsets)
    users = np.repeat(np.arange(len(sizes)), sizes + 1)
    ends = np.concatenate([np.arange(begin, begin + n + 1) for begin, n in zip(timeline.offsets, sizes, strict=False)])
    newest = np.where(ends > timeline.offsets[users], timeline.time[np.maximum(ends - 1, 0)], 0)
    return users, ends, newest + np.random.default_rng(1).integers(1, 100, len(ends)) * HOUR


def test_a_moment_shows_what_a_loop_over_the_events_before_it_finds(timeline: Timeline) -> None:
    users, ends, now = at_moments(timeline)
    found = contexts_at(timeline, users, ends, now, longest=LONGEST, targets=(PURCHASE,))
    for line, (user, end) in enumerate(zip(users.tolist(), ends.tolist(), strict=True)):
        begin = int(timeline.offsets[user])
        events, taken, history = list[tuple[int, ...]](), list[int](), list[int]()
        last = dict[int, int]()  # of each item the kind of its last event, the item seen last at the end
        for at in range(begin, end):
            gap = int(gap_buckets(timeline.time[at : at + 1] - timeline.time[max(at - 1, begin)])[0])
            item, kind = int(timeline.item[at]), int(timeline.kind[at])
            events.append((item, int(timeline.query[at]), 1 + kind, gap))
            if item < 0:
                continue
            history.append(item)
            taken += [item] * (kind == PURCHASE)
            last.pop(item, None)
            last[item] = kind
        one = found.select(np.array([line]))
        assert events_read(one.histories) == [events[-LONGEST:]]
        assert lists_of(one.behaviour.history) == [history]
        assert lists_of(one.behaviour.taken) == lists_of(one.taken) == [taken]
        assert lists_of(one.behaviour.browsed) == [[item for item, kind in last.items() if kind != PURCHASE]]
        assert one.behaviour.day.tolist() == [now[line] // DAY]
        if end > begin:
            assert one.gap.tolist() == gap_buckets(now[line : line + 1] - timeline.time[end - 1]).tolist()
    assert found.named.all()
    assert not found.unknown.any()
    assert found.given.rows.size == 0


def test_users_of_several_parts_are_those_parts_one_after_the_other(timeline: Timeline) -> None:
    users, ends, now = at_moments(timeline)

    def part(lines: np.ndarray) -> UserContexts:
        return contexts_at(timeline, users[lines], ends[lines], now[lines], longest=LONGEST, targets=(PURCHASE,))

    every = np.random.default_rng(2).permutation(len(users))
    whole = part(every)
    assert_same_contexts(UserContexts.join([part(lines) for lines in np.array_split(every, 7)]), whole)
    some = np.array([5, 0, 5, 30])
    assert_same_contexts(whole.select(some), part(every[some]))
    assert whole.select(np.empty(0, np.int64)).histories.items.shape[0] == 0


@pytest.mark.parametrize("longest", [2, LONGEST, 50])
def test_carts_of_different_length_follow_each_users_own_history(timeline: Timeline, longest: int) -> None:
    users, ends, now = at_moments(timeline)
    random = np.random.default_rng(3)
    carts = CSR.from_lists([random.integers(0, 9, n) for n in random.integers(0, 7, len(users))])
    before = contexts_at(timeline, users, ends, now, longest=longest, targets=(PURCHASE,))
    found = before.then_given(carts, PURCHASE, longest)
    own, rows = events_read(before.histories), lists_of(carts)
    wanted = [[*events, *((row, -1, 1 + PURCHASE, 0) for row in cart)] for events, cart in zip(own, rows, strict=True)]
    assert events_read(found.histories) == [events[-longest:] for events in wanted]
    for name in ("history", "taken"):
        own_rows = lists_of(getattr(before.behaviour, name))
        assert lists_of(getattr(found.behaviour, name)) == [
            one + cart for one, cart in zip(own_rows, rows, strict=True)
        ]
    assert lists_of(found.taken) == lists_of(before.taken)
    assert lists_of(found.given) == rows
    filled = np.diff(carts.indptr) > 0
    assert found.gap.tolist() == np.where(filled, 0, before.gap).tolist()
    alone = [
        before.select(np.array([line])).then_given(carts.select(np.array([line])), PURCHASE, longest)
        for line in range(len(users))
    ]
    assert_same_contexts(found, UserContexts.join(alone))


def test_the_newest_given_items_are_read_and_none_twice() -> None:
    batch = items_batch(CSR.from_lists([[7, 3, 5], [], [2]]), -1, longest=2)
    assert batch.items.tolist() == [[3, 5], [-1, -1], [-1, 2]]
    assert batch.kinds.tolist() == [[0, 0], [0, 0], [0, 0]]
    assert batch.present.tolist() == [[True, True], [False, False], [False, True]]
    assert items_batch(CSR.empty(0), 0, longest=3).items.shape == (0, 1)


def test_a_user_of_the_store_is_read_as_of_today(engine: Engine, data: DataSet) -> None:
    state = engine.state
    reader, timeline = state.user_contexts, state.user_store.timeline
    users = np.arange(20)
    ends, now = timeline.offsets[1:][users], np.repeat(reader.today * DAY, 20)
    targets = timeline.codes_of(reader.targets)
    wanted = contexts_at(timeline, users, ends, now, longest=reader.longest, targets=targets)
    found = UserContexts.join([reader.of_user(data.user_ids[user]) for user in users.tolist()])
    assert events_read(found.histories) == events_read(wanted.histories)
    assert lists_of(found.behaviour.browsed) == lists_of(wanted.behaviour.browsed)
    assert lists_of(found.taken) == [sorted(set(rows)) for rows in lists_of(wanted.taken)]
    assert found.gap.tolist() == wanted.gap.tolist()
    assert found.query_texts == state.user_store.query_texts


def test_whoever_is_not_known_has_nothing_but_a_name_or_none(engine: Engine) -> None:
    reader = engine.state.user_contexts
    stranger, nobody = reader.of_user("no such user"), reader.of_user(None)
    for found in (stranger, nobody):
        assert not found.histories.present.any()
        assert found.behaviour.history.rows.size == found.taken.rows.size == 0
        assert found.behaviour.day.tolist() == reader.today.tolist()
    assert (stranger.named.tolist(), nobody.named.tolist()) == ([True], [False])
    assert not reader.has_taken("no such user")
    assert not reader.has_taken(None)


def test_given_items_are_read_as_taken_and_those_of_no_index_are_counted(engine: Engine, data: DataSet) -> None:
    reader = engine.state.user_contexts
    items = [data.item_ids[4], "no such item", data.item_ids[2], data.item_ids[4]]
    found = reader.of_request(Request(history=items))
    kind = 1 + engine.state.user_store.timeline.codes_of(reader.targets)[0]
    assert events_read(found.histories) == [[(row, -1, kind, 0) for row in (4, 2, 4)]]
    assert lists_of(found.behaviour.history) == lists_of(found.behaviour.taken) == lists_of(found.given) == [[4, 2, 4]]
    assert lists_of(found.taken) == [[2, 4]]
    assert found.unknown.tolist() == [1]


def test_a_cart_is_not_what_its_user_took_before(engine: Engine, data: DataSet) -> None:
    reader, user = engine.state.user_contexts, data.user_ids[2]
    own, cart = reader.of_user(user), [data.item_ids[4], "no such item"]
    found = reader.of_cart(cart, user)
    assert lists_of(found.taken) == lists_of(own.taken)
    assert lists_of(found.given) == [[4]]
    assert events_read(found.histories)[0][-1][0] == 4
    assert found.unknown.tolist() == [1]
    alone = reader.of_cart(cart, None)
    assert lists_of(alone.behaviour.history) == [[4]]
    assert alone.taken.rows.size == 0
