"""Requests: moments at which a shopper took items, with the events before as history and the items as targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.data.audit import Bools
from retrieval.data.events import Codes, Events

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Requests:
    """n requests. Request i is of user `user[i]`, at `time[i]`, with the history `events[offsets[user[i]]:end[i]]`.

    `user` int32 [n]; `end` int64 [n]; `time` int64 [n], microseconds since 1970, UTC. The targets of request i are the
    distinct item rows `target_item[target_ptr[i]:target_ptr[i + 1]]`, int32, ascending, at least one.
    """

    user: Codes
    end: Positions
    target_ptr: Positions
    target_item: Codes
    time: Positions

    def __len__(self) -> int:
        return len(self.user)

    def targets(self, i: int) -> Codes:
        """The target item rows of request `i`, int32, at least one."""
        return self.target_item[self.target_ptr[i] : self.target_ptr[i + 1]]

    def select(self, which: NDArray[np.bool_] | NDArray[np.integer]) -> Requests:
        """The requests of a mask, bool [n], or at given positions, in their order."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        sizes = np.diff(self.target_ptr)[at]
        ptr = _pointers(sizes)
        members = np.arange(ptr[-1]) + np.repeat(self.target_ptr[:-1][at] - ptr[:-1], sizes)
        return Requests(self.user[at], self.end[at], ptr, self.target_item[members], self.time[at])

    @classmethod
    def join(cls, parts: Sequence[Requests]) -> Requests:
        """The requests of several parts, one after another."""
        sizes = np.concatenate([np.diff(part.target_ptr) for part in parts])
        return cls(
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.end for part in parts]),
            _pointers(sizes),
            np.concatenate([part.target_item for part in parts]),
            np.concatenate([part.time for part in parts]),
        )


@dataclass(frozen=True)
class Groups:
    """Target events grouped into requests, ordered by user, then time.

    The events of group g are at the positions `member[ptr[g]:ptr[g + 1]]`, int64; its history ends before the event
    `end[g]`, int64.
    """

    member: Positions
    ptr: Positions
    end: Positions

    def requests(self, events: Events, alive: Bools) -> Requests:
        """Requests for the groups' events in the mask `alive`, bool [n_events]; groups left empty are dropped."""
        group = np.repeat(np.arange(len(self.end)), np.diff(self.ptr))
        kept = alive[self.member]
        owners, items = _distinct_pairs(group[kept], events.item[self.member[kept]])
        present, sizes = np.unique(owners, return_counts=True)
        first = self.member[self.ptr[:-1][present]]
        return Requests(
            events.user[first], self.end[present], _pointers(sizes), items.astype(np.int32), events.time[first]
        )


def group_targets(events: Events, target: Bools) -> Groups:
    """Groups the target events of the mask `target`, bool [n_events], into requests.

    Where the data set has baskets, events of a user at one time or in one basket form one request, whose history is
    strictly earlier than the first of them. Otherwise each event is a request, and file order decides between equal
    times.
    """
    at = np.flatnonzero(target)
    if not events.has_baskets:
        return Groups(at, np.arange(len(at) + 1), at)
    group = _linked(events, at)
    order = np.argsort(group, kind="stable")
    ptr = _pointers(np.bincount(group) if len(group) else np.empty(0, np.int64))
    member = at[order]
    return Groups(member, ptr, _instant_starts(events)[member[ptr[:-1]]])


def cancelled_by(events: Events, target: Bools) -> Positions:
    """For each event the position of the return that cancels it, int64 [n_events], -1 where none does.

    A return cancels the latest earlier target event of the same user and item that is not yet cancelled.
    """
    by = np.full(len(events), -1, np.int64)
    returns = events.is_return()
    at = np.flatnonzero(target | returns)
    if not returns.any() or not target.any():
        return by
    # purchases and returns of a user's item match like brackets: a return closes the latest open purchase
    at = at[np.lexsort((returns[at], events.time[at], events.item[at], events.user[at]))]
    pair = _numbered(events.user[at], events.item[at])
    level = _levels(pair, ~returns[at])
    closes = returns[at]
    order = np.lexsort((np.arange(len(at)), level, pair))
    left, right = order[:-1], order[1:]
    matched = ~closes[left] & closes[right] & (level[left] == level[right]) & (pair[left] == pair[right])
    by[at[left[matched]]] = at[right[matched]]
    return by


def _levels(pair: Positions, opens: Bools) -> Positions:
    """The number of open purchases, after each purchase and before each return (0: nothing to cancel)."""
    steps = np.where(opens, 1, -1)
    running = np.cumsum(steps)
    before_pair = np.concatenate(([0], running[:-1]))[np.searchsorted(pair, np.arange(pair[-1] + 1))]
    depth = running - before_pair[pair]
    apart = 2 * len(pair) * pair  # keeps the running minimum of one pair below that of the pair before
    floor = np.minimum.accumulate(np.minimum(depth, 0) - apart) + apart
    after = depth - floor
    before = np.concatenate(([0], after[:-1]))
    before[np.concatenate(([True], np.diff(pair) > 0))] = 0
    levels: Positions = np.where(opens, after, before)
    return levels


def _linked(events: Events, at: Positions) -> Positions:
    """A group number for each event of `at`, in the order of the groups' first events."""
    from scipy.sparse import coo_array  # imported here because it is slow, and serving does not need it
    from scipy.sparse.csgraph import connected_components

    instant = _numbered(events.user[at], events.time[at])
    named = np.flatnonzero(events.basket[at] >= 0)
    keys = events.user[at][named].astype(np.int64) << 32 | events.basket[at][named]
    basket = np.unique(keys, return_inverse=True)[1]
    first_basket = int(instant[-1]) + 1 if len(instant) else 0
    n = first_basket + (int(basket.max()) + 1 if len(basket) else 0)
    edges = (np.ones(len(named), bool), (instant[named], basket + first_basket))
    label = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1][instant]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _instant_starts(events: Events) -> Positions:
    """For each event the first event of the same user at the same time, int64 [n_events]."""
    instant = _numbered(events.user, events.time)
    starts = np.flatnonzero(np.diff(instant, prepend=-1))
    return starts[instant]


def _distinct_pairs(owners: Positions, items: Codes) -> tuple[Positions, Positions]:
    """The distinct (owner, item) pairs, sorted."""
    keys = np.sort(owners << 32 | items)  # ten times faster than np.unique, whose hash these keys collide in
    keys = keys[np.diff(keys, prepend=-1) != 0]
    return keys >> 32, keys & 0xFFFFFFFF


def _numbered(first: NDArray[np.integer], second: NDArray[np.integer]) -> Positions:
    """Consecutive numbers for the runs of equal pairs, int64 [n]."""
    changes = (np.diff(first) != 0) | (np.diff(second) != 0)
    return np.concatenate(([0], np.cumsum(changes)))[: len(first)].astype(np.int64)


def _pointers(sizes: NDArray[np.integer]) -> Positions:
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
