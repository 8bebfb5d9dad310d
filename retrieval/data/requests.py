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

    A return cancels the latest earlier target event of the same user and item of which as much is left as it gives
    back; of the same basket, where both name one. Where none has enough left, it cancels the latest until its quantity
    is used up. What is left of a purchase that was given back in part takes further returns.
    """
    by = np.full(len(events), -1, np.int64)
    returns = events.is_return()
    pair = events.user.astype(np.int64) << 32 | events.item
    at = np.flatnonzero((target | returns) & np.isin(pair, pair[returns]))
    at = at[np.lexsort((returns[at], events.time[at], pair[at]))]
    starts = np.flatnonzero(np.diff(pair[at], prepend=-1))
    for one in np.split(at, starts[1:]):
        _give_back(events, one, returns, by)
    return by


def _give_back(events: Events, at: Positions, returns: Bools, by: Positions) -> None:
    """Enters into `by` which of the purchases of one user and item, among the events `at` in order, are cancelled."""
    left: dict[int, float] = {}  # of each purchase that is not given back whole, the latest last
    for event in at.tolist():
        if not returns[event]:
            left[event] = float(events.quantity[event])
            continue
        amount, basket = float(events.quantity[event]), events.basket[event]
        pool = [one for one in reversed(left) if basket >= 0 and events.basket[one] == basket] or [*reversed(left)]
        enough = next((one for one in pool if left[one] >= amount), None)
        for one in pool if enough is None else [enough]:
            by[one] = event if by[one] < 0 else by[one]
            used = min(amount, left[one])
            left[one], amount = left[one] - used, amount - used
            if left[one] <= 0:
                del left[one]
            if amount <= 0:
                break


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
