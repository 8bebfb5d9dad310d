"""What each user did, in order, as the history model reads it: items and the queries that led to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import RETURNS
from retrieval.data.time_units import HOUR
from retrieval.topk import CSR, ranges

if TYPE_CHECKING:
    from retrieval.data.dataset import Events

QUERY_KIND = "query"
GAP_BUCKETS = 16  # log2 of the hours since the event before: under one hour, one, two, ... three years


class HistoryBatch(NamedTuple):
    """Histories padded at the front: column -1 is the newest event."""

    items: NDArray[np.int64]  # [b, l] item rows; -1 where the event is a query or padding
    queries: NDArray[np.int64]  # [b, l] query codes; -1 elsewhere
    kinds: NDArray[np.int64]  # [b, l] 1 + the code in `Timeline.kinds`; 0 unknown
    gaps: NDArray[np.int64]  # [b, l] buckets of the time since the event before
    present: NDArray[np.bool_]  # [b, l]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Where an item or a query stands, bool [b, l]."""
        return self.present & ((self.items >= 0) | (self.queries >= 0))

    def newest(self, present: NDArray[np.bool_], longest: int) -> HistoryBatch:
        """The newest of the events that are `present`, bool [b, l], at most `longest` of each history."""
        order = np.argsort(present, axis=1, kind="stable")[:, -longest:]  # gaps go to the front, where padding is

        def told(column: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.take_along_axis(column, order, axis=1)

        columns = (told(self.items), told(self.queries), told(self.kinds), told(self.gaps))
        return HistoryBatch(*columns, np.take_along_axis(present, order, axis=1))

    def with_query(self, query: NDArray[np.int64], kind: int, gap: NDArray[np.int64]) -> HistoryBatch:
        """The histories with a query as their newest event, `query` int64 [b] its code, `kind` its kind's, `gap` int64
        [b] the bucket of the time since the event before; where nothing was done before, nothing is added."""
        some = self.readable.any(axis=1)
        return HistoryBatch(
            np.column_stack([self.items, np.full(len(query), -1)]),
            np.column_stack([self.queries, np.where(some, query, -1)]),
            np.column_stack([self.kinds, np.where(some, kind, 0)]),
            np.column_stack([self.gaps, np.where(some, gap, 0)]),
            np.column_stack([self.present, some]),
        )

    def recency(self, decay: float) -> NDArray[np.float32]:
        """What each item counts in a mean over the history, float32 [b, l], summing to 1: with n visits after its own
        `decay ** n`. A visit ends where an hour passes; queries and padding count nothing."""
        later = (self.gaps > 0) & self.present
        after: NDArray[np.int64] = np.cumsum(later[:, ::-1], axis=1)[:, ::-1] - later
        counts = np.where(self.present & (self.items >= 0), decay**after, 0.0)
        total = counts.sum(axis=1, keepdims=True)
        counts /= np.where(total > 0, total, 1.0)
        return counts.astype(np.float32)


def gap_buckets(microseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each span of time, log2 of its hours.

    >>> gap_buckets(np.array([0, 1, 3, 10**9]) * HOUR).tolist()
    [0, 1, 2, 15]
    """
    hours = np.maximum(microseconds / HOUR, 0)
    buckets: NDArray[np.int64] = np.clip(np.log2(1 + hours), 0, GAP_BUCKETS - 1).astype(np.int64)
    return buckets


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Events of all users end to end, a query standing before the event that it led to.

    User u holds `offsets[u]:offsets[u + 1]`; a query repeated by consecutive events stands once.
    """

    item: NDArray[np.int32]  # [n] row of the item, -1 for a query
    query: NDArray[np.int32]  # [n] code into the query texts, -1 for an item
    kind: NDArray[np.int16]  # [n] code into kinds
    time: NDArray[np.int64]  # [n] microseconds since 1970, UTC
    offsets: NDArray[np.int64]  # [n_users + 1]
    kinds: tuple[str, ...]  # the shop's own, with QUERY_KIND among them or after them

    @classmethod
    def from_events(cls, events: Events) -> tuple[Timeline, NDArray[np.int64]]:
        """The timeline, and for each event (and the end) the position before which all earlier ones stand."""
        n = len(events.item)
        begins_user = np.zeros(n + 1, bool)
        begins_user[events.offsets] = True
        same_as_before = np.zeros(n, bool)
        same_as_before[1:] = (events.query[1:] == events.query[:-1]) & ~begins_user[1:n]
        led = (events.query >= 0) & ~same_as_before
        position = np.concatenate(([0], np.cumsum(1 + led))).astype(np.int64)
        total, at = int(position[-1]), position[:-1] + led
        item, query = np.full(total, -1, np.int32), np.full(total, -1, np.int32)
        kinds = events.kinds if QUERY_KIND in events.kinds else (*events.kinds, QUERY_KIND)
        kind, time = np.full(total, kinds.index(QUERY_KIND), np.int16), np.empty(total, np.int64)
        item[at], kind[at], time[at] = events.item, events.kind, events.time
        query[position[:-1][led]], time[position[:-1][led]] = events.query[led], events.time[led]
        offsets = position[events.offsets]
        return cls(item=item, query=query, kind=kind, time=time, offsets=offsets, kinds=kinds), position

    def batch(self, users: NDArray[np.integer], ends: NDArray[np.int64], longest: int) -> HistoryBatch:
        """The last `longest` events of each user before the position `ends`, int64 [b]."""
        starts = self.offsets[users]
        length = int(min(longest, max(1, (ends - starts).max(initial=1))))
        index = ends[:, None] - np.arange(length, 0, -1)
        present = index >= starts[:, None]
        at = index[present]
        before = np.maximum(at - 1, np.broadcast_to(starts[:, None], index.shape)[present])
        gaps = gap_buckets(self.time[at] - self.time[before])

        def placed(values: NDArray[np.integer], padding: int) -> NDArray[np.int64]:
            columns = np.full(present.shape, padding, np.int64)
            columns[present] = values
            return columns

        kinds = self.kind[at].astype(np.int64) + 1
        return HistoryBatch(
            placed(self.item[at], -1), placed(self.query[at], -1), placed(kinds, 0), placed(gaps, 0), present
        )

    def last_query_before(
        self, users: NDArray[np.integer], ends: NDArray[np.int64], times: NDArray[np.int64], within: int
    ) -> NDArray[np.int64]:
        """The position of the newest query of each user before what happened at the position `ends` int64 [n] and the
        time `times` int64 [n], at most `within` microseconds before; -1 where there is none. A query at `ends` itself
        counts: it led there."""
        query = np.append(self.query, -1)
        last = np.maximum.accumulate(np.where(query >= 0, np.arange(len(query)), -1))
        led = (query[ends] >= 0) & (ends < self.offsets[users + 1])
        at = np.where(led, ends, np.where(ends > 0, last[ends - 1], -1))
        near = times - np.append(self.time, 0)[at] <= within
        return np.where((at >= self.offsets[users]) & near, at, -1)

    def items_before(
        self, users: NDArray[np.integer], ends: NDArray[np.int64], kinds: Sequence[int] | None = None
    ) -> CSR:
        """The item rows of each user (int [n]) before the timeline position `ends` (int64 [n]), oldest first, one for
        each event; of the event kinds `kinds` alone (codes into `self.kinds`) where they are given."""
        owner, at = ranges(self.offsets[users], ends)
        kept = self.item[at] >= 0
        if kinds is not None:
            kept &= np.isin(self.kind[at], np.asarray(kinds, np.int64))
        indptr = np.searchsorted(owner[kept], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[kept]].astype(np.int64))

    def items_browsed(self, users: NDArray[np.integer], ends: NDArray[np.int64], taken: Sequence[int]) -> CSR:
        """Of `items_before` without kinds, the distinct rows of each user whose last event neither took them (by the
        kinds `taken`, codes into `self.kinds`) nor gave them back, the one seen last at the end."""
        owner, at = ranges(self.offsets[users], ends)
        owner, at = owner[self.item[at] >= 0], at[self.item[at] >= 0]
        keys = owner * (int(self.item.max(initial=0)) + 1) + self.item[at]
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        settled = [*taken, *(code for code, kind in enumerate(self.kinds) if kind.casefold() in RETURNS)]
        left = np.sort(last[~np.isin(self.kind[at[last]], np.asarray(settled, np.int64))])
        indptr = np.searchsorted(owner[left], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[left]].astype(np.int64))

    def codes_of(self, kinds: Iterable[str]) -> tuple[int, ...]:
        """The codes of event kinds in `self.kinds`, without those that never occurred."""
        wanted = set(kinds)
        return tuple(code for code, kind in enumerate(self.kinds) if kind in wanted)

    def recoded(self, kinds: tuple[str, ...]) -> Timeline:
        """The same events with kinds coded as in `kinds`; one that it lacks becomes -1, so that a batch says 0."""
        code_of = {kind: code for code, kind in enumerate(kinds)}
        codes = np.array([*(code_of.get(kind, -1) for kind in self.kinds), -1], np.int16)  # the last for code -1
        return replace(self, kind=codes[self.kind], kinds=kinds)
