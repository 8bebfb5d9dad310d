"""What shoppers took and looked at after the data of a release, counted event by event."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from ranking.features.facts import Does, ShopFacts, does_of
from ranking.features.item_events import ContinuedEvents, ItemEvents, LaterEvents
from retrieval.data.event_kinds import Meaning, meaning
from retrieval.data.time_units import DAY
from retrieval.sources.registry import LaterTakings
from serving.answering.recorded.timelines import not_in_release, of_release
from serving.answering.user_store import UserStore
from serving.live.events import RecordedEvent
from serving.live.store import EventStore, StoredEvent

TAIL = 4_096  # events that are sorted anew at each reading; those before are sorted once
LOOKS = (Does.CART, Does.LIKE, Does.LOOK)


class ItemLog:
    """Items and times of events as they come in. Items are codes, so that the log outlives the rows of an index.

    One thread adds at a time. What was there at some moment is read by its number of events then, in any thread.
    """

    def __init__(self) -> None:
        self._codes, self._times = array("q"), array("q")
        self._sorted: tuple[ItemRows, int, ItemEvents] | None = None  # by which rows, how many, and those

    def add(self, code: int, time: int) -> None:
        """One more event, microseconds since 1970."""
        self._codes.append(code)
        self._times.append(time)

    def __len__(self) -> int:
        return len(self._times)

    def read(self, rows: ItemRows, end: int, begin: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of items and times, as they are read, of the events from `begin` to `end` whose items are known."""
        found = rows.of[np.array(self._codes[begin:end], np.int64)]
        times = np.array(self._times[begin:end], np.int64)
        return found[found >= 0], rows.moved(times[found >= 0])

    def events(self, rows: ItemRows, end: int) -> tuple[ItemEvents, ...]:
        """Those up to `end` as features count them; sorted but for the newest of them."""
        known = self._sorted
        if known is None or not known[0].alike(rows) or not 0 <= end - known[1] <= TAIL:
            known = self._sorted = rows, end, ItemEvents.of(*self.read(rows, end), rows.version.size)
        _, done, events = known
        if done == end:
            return (events,)
        return events, ItemEvents.of(*self.read(rows, end, done), rows.version.size)


@dataclass(frozen=True)
class ItemRows:
    """The rows of an index version by the code of an item, and where times stand.

    Nothing is known of the days between the release's last event and the first that was recorded later: they are left
    out, in that what happened before `until` is read `shift` later; microseconds.
    """

    version: IndexVersion
    of: NDArray[np.int64]  # [n_codes] -1 where the version lacks the item
    until: int
    shift: int

    def moved(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times, int64 [n], as they are read."""
        return np.where(times < self.until, times + self.shift, times)

    def alike(self, other: ItemRows) -> bool:
        """Whether the same codes and times are read alike."""
        return self.version is other.version and self.until == other.until and self.shift == other.shift


class LiveCounters:
    """The events of a store beyond those of a release. Not safe for several threads at once: the caller locks."""

    def __init__(self, events: EventStore, after: int, store: UserStore, targets: Sequence[str]) -> None:
        self.position = after  # in the store, of the last event that was counted
        self.newest = 0  # when the newest event happened, microseconds since 1970
        self._events, self._after = events, after
        self._store, self._targets = store, frozenset(targets)
        self._begin = store.today * DAY
        self._first = 0  # when the first event after the release's time happened; 0: none yet
        self._codes: dict[str, int] = {}
        self._taken, self._looked, self._undone = ItemLog(), ItemLog(), ItemLog()
        self._rows: tuple[IndexVersion, NDArray[np.int64]] | None = None

    def add(self, version: IndexVersion, stored: Sequence[StoredEvent]) -> None:
        """Count events that follow those counted so far."""
        for position, event in stored:
            self.position = position
            if not not_in_release(self._store, version, event.user_id, [event]):
                continue
            self.newest = max(self.newest, event.time)
            if event.time >= self._begin:
                self._first = min(self._first or event.time, event.time)
            if event.is_return:
                self._undo(version, event)
            elif event.kind in self._targets:
                self._taken.add(self._code(event), event.time)
            elif event.kind in self._store.timeline.kinds and does_of(event.kind, ()) in LOOKS:
                self._looked.add(self._code(event), event.time)

    @property
    def now(self) -> int:
        """When a request is made, microseconds since 1970: after every event."""
        return max(self._begin, self.newest + 1)

    def takings(self, version: IndexVersion) -> LaterTakings:
        """What was taken, for the sources that continue with it."""
        rows, today = self._item_rows(version), max(self._store.today, self.newest // DAY + 1)
        (taken, when), (undone, then) = (log.read(rows, len(log)) for log in (self._taken, self._undone))
        return LaterTakings(
            item=np.concatenate([taken, undone]),
            day=np.concatenate([when, then]) // DAY,
            sign=np.repeat((1, -1), (len(taken), len(undone))),
            today=today,
            shift=rows.shift // DAY,
        )

    def facts(self, known: ShopFacts, version: IndexVersion) -> ShopFacts:
        """What features read of the shop, with what was taken and looked at since; sorted when it is read."""
        rows = self._item_rows(version)
        taken = ContinuedEvents(known.taken, rows.shift, _read_later(self._taken, self._undone, rows))
        looked = ContinuedEvents(known.looked, rows.shift, _read_later(self._looked, ItemLog(), rows))
        return known.continued(taken, looked, self.now)

    def _code(self, event: RecordedEvent) -> int:
        return self._codes.setdefault(event.item_id, len(self._codes))

    def _item_rows(self, version: IndexVersion) -> ItemRows:
        before = self._rows[1] if self._rows is not None and self._rows[0] is version else np.empty(0, np.int64)
        if len(before) < len(self._codes):
            new = list(self._codes)[len(before) :]
            before = np.concatenate([before, version.rows_of(new)])
        self._rows = version, before
        shift = max(0, self._first // DAY * DAY - self._begin)
        return ItemRows(version, before, self._begin, shift)

    def _undo(self, version: IndexVersion, event: RecordedEvent) -> None:
        """Count the taking that a return undoes no more: the latest of that item before it that none undid yet."""
        taken: list[int] = []
        for time, takes, back in sorted(self._history(version, event), key=itemgetter(0)):
            if takes:
                taken.append(time)
            elif taken:
                undone = taken.pop()
                if back is not None and back.event_id == event.event_id:
                    self._undone.add(self._code(event), undone)

    def _history(self, version: IndexVersion, event: RecordedEvent) -> list[tuple[int, bool, RecordedEvent | None]]:
        """When a shopper took or gave back an item: times, whether it was taken, and events that were recorded."""
        live = self._events.of_user(event.user_id, self._after)
        item, _, kind, time = of_release(self._store, event.user_id, live.forgotten_at)
        names, row = self._store.timeline.kinds, int(version.rows_of([event.item_id])[0])
        found: list[tuple[int, bool, RecordedEvent | None]] = []
        for at in np.flatnonzero((item == row) & (row >= 0) & (kind >= 0)).tolist():
            name = names[kind[at]]
            if name in self._targets or meaning(name) is Meaning.RETURN:
                found.append((int(time[at]), name in self._targets, None))
        same = [stored.event for stored in live.events if stored.event.item_id == event.item_id]
        kept = not_in_release(self._store, version, event.user_id, same)
        counted = (one for one in kept if one.is_return or one.kind in self._targets)
        return [*found, *((one.time, not one.is_return, one) for one in counted)]


def popularity(known: NDArray[np.float32], later: LaterTakings) -> NDArray[np.float32]:
    """How often each item was taken in all, float32 [n_items], `known` of them before."""
    found = np.zeros(len(known), np.float32)
    np.maximum(known + np.bincount(later.item, later.sign, len(known)), 0, out=found, casting="same_kind")
    return found


def _read_later(added: ItemLog, undone: ItemLog, rows: ItemRows) -> Callable[[], LaterEvents]:
    """What reads the events of two logs as they are now, when it is called."""
    until, back = len(added), len(undone)
    return lambda: LaterEvents(added.events(rows, until), ItemEvents.of(*undone.read(rows, back), rows.version.size))
