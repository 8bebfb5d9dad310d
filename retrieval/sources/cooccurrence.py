"""Item-to-item statistics of events: cosine similarity by shared shoppers, and how often one follows another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from retrieval.data.events import Events

NEIGHBOURS = 200  # most similar items that are kept of each item
LONGEST = 500  # last distinct items of a shopper that count, so that a robot does not relate everything to everything
BASKETS = 10  # added to the number of baskets of every item, so that two items of one basket are not related by chance
STEP = 4_096  # items whose similarities are computed at once


def cooccurrence(
    events: Events, counted: Mask, n_items: int, *, neighbours: int = NEIGHBOURS, longest: int = LONGEST
) -> csr_array:
    """Cosine similarity of items over the events of the mask `counted`, bool [n_events]; see `cosines`."""
    return cosines(events.user[counted], events.item[counted], n_items, neighbours=neighbours, longest=longest)


def cosines(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    n_items: int,
    *,
    shrinkage: float = 0.0,
    neighbours: int = NEIGHBOURS,
    longest: int = LONGEST,
) -> csr_array:
    """Cosine similarity of items by shared shoppers: the `neighbours` most similar of each, zero diagonal.

    `users` and `items` int [n] are events sorted by user, then time. `shrinkage` is added to the number of shoppers of
    every item, so that two items with few shoppers are not similar by chance. Sparse float32 [n_items, n_items].
    """
    from scipy.sparse import csr_array, vstack

    users, items = _latest_pairs(users, items, longest)
    ones = np.ones(len(users), np.float32)
    shape = (int(users.max(initial=-1)) + 1, n_items)
    bought = csr_array((ones, (users, items)), shape=shape)
    norms = np.sqrt(np.maximum(np.bincount(items, minlength=n_items) + shrinkage, 1)).astype(np.float32)
    bought.data /= norms[bought.indices]
    turned = csr_array(bought.T)
    blocks = [
        _nearest(csr_array(turned[start : start + STEP] @ bought), start, neighbours)
        for start in range(0, n_items, STEP)
    ]
    return csr_array(vstack(blocks))


def same_basket(baskets: CSR, n_items: int, *, neighbours: int = NEIGHBOURS, longest: int = LONGEST) -> csr_array:
    """How likely each item (column) is in a basket with another (row), for its own popularity: of baskets of item rows,
    a list each, (common baskets) / ((n_row + 10) * sqrt(n_column + 10)), n the baskets of an item, where one of m items
    counts 1 / sqrt(m), for that two things of a large order go together says little.

    Only the last `longest` items of a basket count. Returns the `neighbours` best of each item, sparse float32
    [n_items, n_items], zero diagonal.
    """
    from scipy.sparse import csr_array, diags_array, vstack

    owners, items = _latest_pairs(baskets.owners, baskets.rows, longest)
    held = csr_array((np.ones(len(items), np.float32), (owners, items)), (baskets.n_lists, n_items))
    weights = 1 / np.sqrt(np.maximum(np.diff(held.indptr), 1)).astype(np.float32)
    counts = np.bincount(items, minlength=n_items).astype(np.float32) + BASKETS
    weighed = csr_array(diags_array(weights) @ held @ diags_array(1 / np.sqrt(counts)))
    turned = csr_array(diags_array(1 / counts) @ held.T)
    blocks = [
        _nearest(csr_array(turned[start : start + STEP] @ weighed), start, neighbours)
        for start in range(0, n_items, STEP)
    ]
    return csr_array(vstack(blocks), dtype=np.float32)


def right_after(events: Events, counted: Mask, n_items: int, *, neighbours: int = NEIGHBOURS) -> csr_array:
    """How often each item (column) came right after another (row) in the events of the mask `counted`, bool [n_events].

    Returns the `neighbours` most frequent followers of each item, sparse float32 [n_items, n_items], zero diagonal.
    Where there are baskets, all events of a shopper at one time follow the last event before that time.
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
    """The lists as a sparse 0/1 matrix, float32 [n_lists, n_items]."""
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(lists.rows), np.float32), lists.rows, lists.indptr), (lists.n_lists, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _latest_pairs(
    users: NDArray[np.integer], items: NDArray[np.integer], longest: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Distinct (user, item) pairs of events sorted by user and time: the last `longest` of each user."""
    keys = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    last.sort()
    users, items = users[last], items[last]
    from_end = np.searchsorted(users, users, side="right") - np.arange(len(users))
    return users[from_end <= longest], items[from_end <= longest]


def _nearest(similar: csr_array, start: int, neighbours: int) -> csr_array:
    """The largest `neighbours` values of each row, ties by column, without the diagonal; row 0 is item `start`."""
    from scipy.sparse import csr_array

    line = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    column, value = similar.indices, similar.data
    order = np.lexsort((column, -value, line))
    order = order[column[order] != line[order] + start]
    rank = np.arange(len(order)) - np.searchsorted(line[order], line[order])
    kept = order[rank < neighbours]
    return csr_array((value[kept], (line[kept], column[kept])), shape=similar.shape)
