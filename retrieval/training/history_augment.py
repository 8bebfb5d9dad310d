"""Histories changed a little in each training step, so that no one order of events is learned by heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.data.timeline import HistoryBatch

STRETCH = 0.2  # of a history is shuffled at once, two events at least
SHORTEST = 3  # events of a history that is: of two, nothing would be left to learn


def masked(present: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The events that are left, bool [b, l], when each is hidden with the chance `share`."""
    return present & (rng.random(present.shape) >= share)


def cropped(present: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The events that are left, bool [b, l], when a `share` of the histories begins at a random one of its events."""
    sizes = present.sum(axis=1)
    begin = np.where(rng.random(len(present)) < share, rng.integers(0, np.maximum(sizes, 1)), 0)
    return present & (np.cumsum(present, axis=1) > begin[:, None])


def reordered(batch: HistoryBatch, share: float, rng: np.random.Generator) -> tuple[HistoryBatch, NDArray[np.bool_]]:
    """A short stretch of a `share` of the histories shuffled (the reorder of CL4SRec, Xie et al. 2022), and the places
    whose target may be learned, bool [b, l]: inside a stretch what comes next may have been seen already.

    Times stay where they were.
    """
    order = np.broadcast_to(np.arange(batch.present.shape[1]), batch.present.shape).copy()
    told = batch.present.copy()
    first = batch.present.shape[1] - batch.present.sum(axis=1)
    for line in np.flatnonzero((rng.random(len(order)) < share) & (order.shape[1] - first >= SHORTEST)).tolist():
        size = order.shape[1] - int(first[line])
        length = max(2, round(STRETCH * size))
        start = int(first[line] + rng.integers(0, size - length + 1))
        order[line, start : start + length] = start + rng.permutation(length)
        told[line, start : start + length - 1] = False
    items, queries, kinds = (
        np.take_along_axis(column, order, axis=1) for column in (batch.items, batch.queries, batch.kinds)
    )
    return batch._replace(items=items, queries=queries, kinds=kinds), told
