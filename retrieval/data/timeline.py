"""Histories: each user's events in order, with the queries that led to them, as the history model reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.data.event_kinds import Meaning, meaning
from retrieval.data.time_units import HOUR
from retrieval.topk import CSR, ranges

if TYPE_CHECKING:
    from retrieval.data.dataset import Events

QUERY_KIND = "query"  # the kind of event that stands for a query
GAP_BUCKETS = 16  # log2 of the hours since the previous event, from under one hour to over three years


class HistoryBatch(NamedTuple):
    """b histories of at most l events, padded at the front: column -1 is the newest event."""

    items: NDArray[np.int64]  # [b, l] item rows; -1 where the event is a query or padding
    queries: NDArray[np.int64]  # [b, l] query codes; -1 elsewhere
    kinds: NDArray[np.int64]  # [b, l] 1 + the code in `Timeline.kinds`; 0 unknown
    gaps: NDArray[np.int64]  # [b, l] buckets of the time since the previous event
    present: NDArray[np.bool_]  # [b, l] False for padding

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Mask of the events that are an item or a query, bool [b, l]."""
        return self.present & ((self.items >= 0) | (self.queries >= 0))

    def newest(self, present: NDArray[np.bool_], longest: int) -> HistoryBatch:
        """The newest `longest` events of each history among those of the mask `present`, bool [b, l]."""
        order = np.argsort(present, axis=1, kind="stable")[:, -longest:]  # absent events move to the front

        def ordered(column: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.take_along_axis(column, order, axis=1)

        columns = (ordered(self.items), ordered(self.queries), ordered(self.kinds), ordered(self.gaps))
        return HistoryBatch(*columns, np.take_along_axis(present, order, axis=1))

    def with_query(self, query: NDArray[np.int64], kind: int, gap: NDArray[np.int64]) -> HistoryBatch:
        """The histories with a query appended as their newest event; an empty history stays empty.

        `query` int64 [b] are query codes, `kind` is the code of QUERY_KIND, `gap` int64 [b] the buckets of the time
        since the previous event.
        """
        has_events = self.readable.any(axis=1)
        return HistoryBatch(
            np.column_stack([self.items, np.full(len(query), -1)]),
            np.column_stack([self.queries, np.where(has_events, query, -1)]),
            np.column_stack([self.kinds, np.where(has_events, kind, 0)]),
            np.column_stack([self.gaps, np.where(has_events, gap, 0)]),
            np.column_stack([self.present, has_events]),
        )

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> HistoryBatch:
        """The batch with `change` applied to every column, [b, l]."""
        return HistoryBatch(*(change(column) for column in self))

    def followed_by(self, later: HistoryBatch, longest: int) -> HistoryBatch:
        """These histories, each followed by that of the same request in `later`, cut to the newest `longest` events."""
        if not self.present.any() and later.present.shape[1] <= longest:
            return later
        both = HistoryBatch(*(np.hstack(pair) for pair in zip(self, later, strict=True)))
        found = both.newest(both.present, longest)
        padding = found.present.shape[1] - max(1, int(found.present.sum(axis=1).max(initial=0)))
        return found.each(lambda column: column[:, padding:])

    @classmethod
    def join(cls, parts: Sequence[HistoryBatch]) -> HistoryBatch:
        """The histories of several batches, one after another, padded at the front to the longest."""
        length = max(part.items.shape[1] for part in parts)

        def joined(columns: Iterable[NDArray[Any]], padding: int) -> NDArray[Any]:
            widened = (
                np.pad(column, ((0, 0), (length - column.shape[1], 0)), constant_values=padding) for column in columns
            )
            return np.concatenate(list(widened))

        return cls(*map(joined, zip(*parts, strict=True), (-1, -1, 0, 0, 0)))

    def recency(self, decay: float) -> NDArray[np.float32]:
        """The weight of each item in a decayed mean over its history, float32 [b, l], summing to 1 per history.

        An item with n visits after its own has weight `decay ** n` before scaling; a visit ends after an hour without
        events. Queries and padding have weight 0.
        """
        later = (self.gaps > 0) & self.present
        after: NDArray[np.int64] = np.cumsum(later[:, ::-1], axis=1)[:, ::-1] - later
        weights = np.where(self.present & (self.items >= 0), decay**after, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total > 0, total, 1.0)
        return weights.astype(np.float32)


def gap_buckets(microseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each span of time: log2 of 1 + its hours, at most GAP_BUCKETS - 1.

    >>> gap_buckets(np.array([0, 1, 3, 10**9]) * HOUR).tolist()
    [0, 1, 2, 15]
    """
    hours = np.maximum(microseconds / HOUR, 0)
    buckets: NDArray[np.int64] = np.clip(np.log2(1 + hours), 0, GAP_BUCKETS - 1).astype(np.int64)
    return buckets


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Events of all users, user after user in the order of time, each query placed before the event that it led to.

    The positions of user u are `offsets[u]:offsets[u + 1]`. A query of several consecutive events is placed once.
    """

    item: NDArray[np.int32]  # [n] row of the item, -1 for a query
    query: NDArray[np.int32]  # [n] code into `Events.query_texts`, -1 for an item
    kind: NDArray[np.int16]  # [n] code into kinds
    time: NDArray[np.int64]  # [n] microseconds since 1970, UTC
    offsets: NDArray[np.int64]  # [n_users + 1]
    kinds: tuple[str, ...]  # the data set's kinds of events, and QUERY_KIND

    @classmethod
    def from_events(cls, events: Events) -> tuple[Timeline, NDArray[np.int64]]:
        """The timeline, and for each event the position before which its history stands, int64 [n_events + 1]."""
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
        """The newest `longest` events of each of `users` [b] before the timeline positions `ends`, int64 [b]."""
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
        """The timeline position of each user's newest query before a request, int64 [n]; -1 where there is none.

        A request stands at the timeline position `ends` and the time `times`, int64 [n] each; queries of more than
        `within` microseconds before do not count. A query at `ends` itself counts, because it led to the request.
        """
        query = np.append(self.query, -1)
        last = np.maximum.accumulate(np.where(query >= 0, np.arange(len(query)), -1))
        led = (query[ends] >= 0) & (ends < self.offsets[users + 1])
        at = np.where(led, ends, np.where(ends > 0, last[ends - 1], -1))
        near = times - np.append(self.time, 0)[at] <= within
        return np.where((at >= self.offsets[users]) & near, at, -1)

    def items_before(
        self, users: NDArray[np.integer], ends: NDArray[np.int64], kinds: Sequence[int] | None = None
    ) -> CSR:
        """The item rows of each user's events before the timeline positions `ends`, int64 [n], oldest first.

        With `kinds`, codes into `self.kinds`, only events of those.
        """
        owner, at = ranges(self.offsets[users], ends)
        kept = self.item[at] >= 0
        if kinds is not None:
            kept &= np.isin(self.kind[at], np.asarray(kinds, np.int64))
        indptr = np.searchsorted(owner[kept], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[kept]].astype(np.int64))

    def items_taken(self, users: NDArray[np.integer], ends: NDArray[np.int64], taken: Sequence[int]) -> CSR:
        """The item rows of each user's events of the kinds `taken` (codes) before the timeline positions `ends`, int64
        [n], oldest first, without those that a return before `ends` undoes: each the latest before it of that item."""
        if not self._returns:
            return self.items_before(users, ends, taken)
        owner, at = ranges(self.offsets[users], ends)
        owner, at = owner[self.item[at] >= 0], at[self.item[at] >= 0]
        takes = np.isin(self.kind[at], np.asarray(taken, np.int64))
        undone = undone_by(owner, self.item[at], takes, self.is_return(at)) >= 0
        kept = takes & ~undone
        indptr = np.searchsorted(owner[kept], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[kept]].astype(np.int64))

    def is_return(self, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mask of the events at positions `at` by which an item is given back, bool [len(at)]."""
        return np.isin(self.kind[at], np.asarray(self._returns, np.int64))

    def events_before(
        self, users: NDArray[np.integer], ends: NDArray[np.int64], most: int
    ) -> tuple[CSR, NDArray[np.int64], NDArray[np.int64]]:
        """The newest `most` events on items of each user before the timeline positions `ends`, int64 [n], oldest first:
        item rows, and int64 codes of kinds and times of each."""
        owner, at = ranges(self.offsets[users], ends)
        kept = self.item[at] >= 0
        owner, at = owner[kept], at[kept]
        lists = CSR(np.searchsorted(owner, np.arange(len(ends) + 1)).astype(np.int64), at)
        recent = lists.indptr[1:][owner] - np.arange(len(owner)) <= most
        lists = lists.where(recent)
        at = lists.rows
        rows = self.item[at].astype(np.int64)
        return CSR(lists.indptr, rows), self.kind[at].astype(np.int64), self.time[at].astype(np.int64)

    def items_browsed(self, users: NDArray[np.integer], ends: NDArray[np.int64], taken: Sequence[int]) -> CSR:
        """Distinct item rows before `ends` that each user browsed without taking them, the most recent last.

        These are the items whose newest event is neither of the kinds `taken`, codes into `self.kinds`, nor a return.
        """
        owner, at = ranges(self.offsets[users], ends)
        owner, at = owner[self.item[at] >= 0], at[self.item[at] >= 0]
        newest = self._newest(owner, at)
        newest = newest[~np.isin(self.kind[at[newest]], np.asarray([*taken, *self._returns], np.int64))]
        indptr = np.searchsorted(owner[newest], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[newest]].astype(np.int64))

    def items_carted(
        self, users: NDArray[np.integer], ends: NDArray[np.int64], carts: Sequence[int], taken: Sequence[int]
    ) -> CSR:
        """Distinct item rows before `ends` that each user put in the cart, by events of the kinds `carts`, and neither
        took, by events of the kinds `taken`, nor gave back since, the most recent last; looks in between do not count.
        """
        ended = [*taken, *self._returns]
        owner, at = ranges(self.offsets[users], ends)
        counted = (self.item[at] >= 0) & np.isin(self.kind[at], np.asarray([*carts, *ended], np.int64))
        owner, at = owner[counted], at[counted]
        newest = self._newest(owner, at)
        newest = newest[~np.isin(self.kind[at[newest]], np.asarray(ended, np.int64))]
        indptr = np.searchsorted(owner[newest], np.arange(len(ends) + 1)).astype(np.int64)
        return CSR(indptr, self.item[at[newest]].astype(np.int64))

    def _newest(self, owner: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of events at positions `at` on items of each `owner`, int64 [n] each in order, the places of the newest on
        each item, ascending."""
        keys = owner * (int(self.item.max(initial=0)) + 1) + self.item[at]
        places: NDArray[np.int64] = np.sort(len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1])
        return places

    @property
    def _returns(self) -> list[int]:
        """The codes of the kinds of events by which an item is given back."""
        return [code for code, kind in enumerate(self.kinds) if meaning(kind) is Meaning.RETURN]

    def codes_of(self, kinds: Iterable[str]) -> tuple[int, ...]:
        """The codes of the given kinds of events in `self.kinds`; unknown kinds are left out."""
        wanted = set(kinds)
        return tuple(code for code, kind in enumerate(self.kinds) if kind in wanted)

    def recoded(self, kinds: tuple[str, ...]) -> Timeline:
        """The same events with kinds coded as positions in `kinds`; one that it lacks becomes -1, in batches 0."""
        code_of = {kind: code for code, kind in enumerate(kinds)}
        codes = np.array([*(code_of.get(kind, -1) for kind in self.kinds), -1], np.int16)  # last: for code -1
        return replace(self, kind=codes[self.kind], kinds=kinds)


def undone_by(
    owners: NDArray[np.integer],
    items: NDArray[np.integer],
    takes: NDArray[np.bool_],
    returns: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """For each of n events of users, in the order of time, the place of the return that undoes it, int64 [n]; -1: none.

    A return undoes the latest earlier taking of the same item by the same user that none has undone yet.

    >>> undone_by(np.zeros(4, int), np.array([7, 7, 7, 8]), np.array([1, 1, 0, 1], bool), np.array([0, 0, 1, 0], bool))
    array([-1,  2, -1, -1])
    """
    by = np.full(len(items), -1, np.int64)
    if not returns.any():
        return by
    keys = owners.astype(np.int64) << 32 | items.astype(np.int64)
    open_takings: dict[int, list[int]] = {}
    for at in np.flatnonzero((takes | returns) & np.isin(keys, keys[returns])).tolist():
        stack = open_takings.setdefault(int(keys[at]), [])
        if takes[at]:
            stack.append(at)
        elif stack:
            by[stack.pop()] = at
    return by
