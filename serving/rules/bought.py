"""What shoppers bought so lately that it is not answered again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranking.features.shortlists import ShopperEvents
from retrieval.data.time_units import DAY
from retrieval.topk import CSR


def not_again(
    taken: CSR,
    events: ShopperEvents,
    kinds: Sequence[int],
    now: int,
    days: Sequence[NDArray[np.float64]],
    *,
    rest: bool,
) -> CSR:
    """Of the rows that n shoppers took, those that are not to be answered at `now`, microseconds since 1970.

    `days` float64 [size] of each rule: how long a row is not answered after it was taken; nan: the rule says nothing of
    it. Of what no rule says anything of, all where `rest` is true, else none. `kinds` are the codes of the events by
    which items are taken. What was taken before the events that are known was so just before them.
    """
    age = (now - _last_taken(taken, events, kinds, now)) / DAY
    said, soon = np.zeros(len(age), bool), np.zeros(len(age), bool)
    for one in days:
        of_pair = one[taken.rows]
        said |= np.isfinite(of_pair)
        soon |= age < of_pair  # false for nan
    return taken.where(np.where(said, soon, rest))


def _last_taken(taken: CSR, events: ShopperEvents, kinds: Sequence[int], now: int) -> NDArray[np.int64]:
    """When each taken row was taken last, int64 [len(taken.rows)]."""
    items = events.items
    sizes = np.diff(items.indptr)
    first = np.full(items.n_lists, now, np.int64)
    first[sizes > 0] = events.times[items.indptr[:-1][sizes > 0]]  # they are in the order of time
    span = int(max(taken.rows.max(initial=0), items.rows.max(initial=0))) + 1
    by_taking = np.isin(events.kinds, np.asarray(kinds, np.int64))
    keys = (items.owners * span + items.rows)[by_taking]
    times = events.times[by_taking]
    wanted = taken.owners * span + taken.rows
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], wanted, side="right") - 1  # of equal ones the last, which is the newest
    known = (at >= 0) & (np.append(keys[order], -1)[at] == wanted)
    return np.where(known, np.append(times[order], 0)[at], first[taken.owners])
