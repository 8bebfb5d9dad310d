"""What every store of events does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from live_events import SECOND, event
from serving.live.events import RecordedEvent
from serving.live.opening import open_store
from serving.live.store import EventStore, user_hash


def ids(store: EventStore, user: str, after: int = 0) -> list[str]:
    return [stored.event.event_id for stored in store.of_user(user, after).events]


def test_a_store_in_which_nothing_was_stored_is_not_there_and_holds_nothing(store: EventStore) -> None:
    assert not store.exists()
    assert (store.identity(), store.since(0, 10), dict(store.forgotten())) == ("", [], {})
    assert not store.of_user("ann").events
    assert not store.exists()


def test_events_come_back_as_they_were_stored_in_that_order(store: EventStore) -> None:
    whole = RecordedEvent("x", "ann", "mug", "purchase", 5, -1.5, 2.25, "basket 1", "red mug \u676f", 4.0)
    assert store.append([whole, event(1, "bob")]) == 2
    assert store.append([event(2)]) == 1
    assert [stored.event for stored in store.since(0, 10)] == [whole, event(1, "bob"), event(2)]
    first, second = store.of_user("ann").events
    assert (first.event, second.event) == (whole, event(2))
    assert first.position < second.position
    assert store.of_user("ann", first.position).events == [second]
    assert store.since(first.position, 1)[0].event == event(1, "bob")


@pytest.mark.parametrize("text", ["'; DROP TABLE events; --", '"', "\\", "%s ? :a $1", "\x00", "\r\n*1\r\n", "\u202e"])
def test_texts_of_any_kind_come_back_as_they_were(store: EventStore, text: str) -> None:
    whole = RecordedEvent(text, text, text, text, 5, None, None, text, text, None)
    assert store.append([whole, event(1)]) == 2
    assert [stored.event for stored in store.of_user(text).events] == [whole]
    assert ids(store, "ann") == ["e1"]


def test_an_event_is_stored_once_however_often_it_is_sent(store: EventStore) -> None:
    assert store.append([event(1), event(1)]) == 1
    assert store.append([event(1), event(2)]) == 1
    assert ids(store, "ann") == ["e1", "e2"]


def test_another_opening_sees_what_was_stored_and_the_same_identity(place: str, store: EventStore) -> None:
    store.append([event(1)])
    other = open_store(place)
    assert other.exists()
    assert other.identity() == store.identity() != ""
    other.append([event(2)])
    assert ids(store, "ann") == ["e1", "e2"]
    other.close()
    assert ids(other, "ann") == ["e1", "e2"]  # opened again
    other.close()


def test_a_forgotten_user_leaves_nothing_but_a_hash_and_others_stay(store: EventStore) -> None:
    store.append([event(1), event(2, "bob"), event(3)])
    assert store.forget("ann", 10 * SECOND) == 2
    assert [stored.event for stored in store.since(0, 10)] == [event(2, "bob")]
    assert not store.of_user("ann").events
    assert store.of_user("ann").forgotten_at == 10 * SECOND
    assert store.of_user("bob").forgotten_at is None
    assert dict(store.forgotten()) == {user_hash(store.identity(), "ann"): 10 * SECOND}
    assert store.forget("ann", 9 * SECOND) == 0
    assert store.of_user("ann").forgotten_at == 10 * SECOND


def test_what_a_user_did_before_being_forgotten_is_not_stored_any_more_and_what_follows_is(store: EventStore) -> None:
    store.append([event(1)])
    store.forget("ann", 10 * SECOND)
    assert store.append([event(1), event(10), event(11), event(2, "bob")]) == 2
    assert ids(store, "ann") == ["e11"]


def test_a_user_may_be_forgotten_before_anything_was_stored(store: EventStore) -> None:
    assert store.forget("ann", 10 * SECOND) == 0
    assert store.exists()
    assert store.append([event(1)]) == 0


def test_events_of_many_threads_are_all_stored_once(store: EventStore) -> None:
    def send(thread: int) -> int:
        return sum(store.append([event(100 * (thread // 2) + number, "ann")]) for number in range(20))

    with ThreadPoolExecutor(8) as pool:
        new = sum(pool.map(send, range(8)))
    assert new == 80  # two threads send the same
    stored = store.since(0, 1_000)
    assert len({one.event.event_id for one in stored}) == len(stored) == 80
    assert [one.position for one in stored] == sorted({one.position for one in stored})
