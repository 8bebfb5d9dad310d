"""What goes with what: the similarity of items by the shoppers they share; and what comes right after what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from retrieval.data.events import Events

NEIGHBOURS = 200  # the nearest of each item that are kept
LONGEST = 500  # distinct items of a shopper that count, the last ones: one robot must not relate all to all


def cooccurrence(
    events: Events, counted: Mask, n_items: int, *, neighbours: int = NEIGHBOURS, longest: int = LONGEST
) -> csr_array:
    """Cosine similarity of items in the events `counted`, bool [n_events]; see `cosines`."""
    return cosines(events.user[counted], events.item[counted], n_items, neighbours=neighbours, longest=longest)


def cosines(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    n_items: int,
    *,
    doubt: float = 0.0,
    neighbours: int = NEIGHBOURS,
    longest: int = LONGEST,
) -> csr_array:
    """Cosine similarity of items by the shoppers they share, the `neighbours` nearest of each; float32, zero diagonal.

    `users` and `items` int [n] are events in the order of users, and of time for each. Every item counts as if `doubt`
    more shoppers had taken it alone, so that two of few shoppers are not alike by accident.
    """
    from scipy.sparse import csr_array, vstack

    users, items = _latest_pairs(users, items, longest)
    ones = np.ones(len(users), np.float32)
    shape = (int(users.max(initial=-1)) + 1, n_items)
    bought = csr_array((ones, (users, items)), shape=shape)
    norms = np.sqrt(np.maximum(np.bincount(items, minlength=n_items) + doubt, 1)).astype(np.float32)
    bought.data /= norms[bought.indices]
    turned = csr_array(bought.T)
    step = 4096
    blocks = [
        _nearest(csr_array(turned[start : start + step] @ bought), start, neighbours)
        for start in range(0, n_items, step)
    ]
    return csr_array(vstack(blocks))


def right_after(events: Events, counted: Mask, n_items: int, *, neighbours: int = NEIGHBOURS) -> csr_array:
    """How often each item (column) came right after each other (row) in the events `counted`, bool [n_events]: the
    `neighbours` most frequent of each, float32 [n_items, n_items], zero diagonal.

    Where there are baskets, events of a shopper at one time came at once, right after the last one before them.
    """
    from scipy.sparse import csr_array

    users, items = events.user[counted], events.item[counted]
    begins = np.ones(len(users), bool)
    if events.has_baskets:
        begins[1:] = (np.diff(users) != 0) | (np.diff(events.time[counted]) != 0)
    before = np.flatnonzero(begins)[np.cumsum(begins) - 1] - 1
    later = np.flatnonzero((before >= 0) & (users[before] == users))
    pairs = (items[before[later]], items[later])
    return _nearest(csr_array((np.ones(len(later), np.float32), pairs), (n_items, n_items)), 0, neighbours)


def incidence(lists: CSR, n_items: int) -> csr_array:
    """1 where a list holds an item, float32 [n_lists, n_items]."""
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(lists.rows), np.float32), lists.rows, lists.indptr), (lists.n_lists, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _latest_pairs(
    users: NDArray[np.integer], items: NDArray[np.integer], longest: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The distinct (user, item) pairs of events sorted by user and time, the last `longest` of each user."""
    keys = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    last.sort()
    users, items = users[last], items[last]
    from_end = np.searchsorted(users, users, side="right") - np.arange(len(users))
    return users[from_end <= longest], items[from_end <= longest]


def _nearest(similar: csr_array, start: int, neighbours: int) -> csr_array:
    """The best `neighbours` of each line, ties by column, without the item itself."""
    from scipy.sparse import csr_array

    line = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    column, value = similar.indices, similar.data
    order = np.lexsort((column, -value, line))
    order = order[column[order] != line[order] + start]
    rank = np.arange(len(order)) - np.searchsorted(line[order], line[order])
    kept = order[rank < neighbours]
    return csr_array((value[kept], (line[kept], column[kept])), shape=similar.shape)
