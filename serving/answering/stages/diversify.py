"""Stage 9: unlike items next to each other, as far as the request asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranking.ordering.diversity import diversified
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def diversify(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `order` and `candidates`, writes the first k places of `order`.

    Items are as unlike as the vectors of the item tower say. What a query names by its id or code stays in front.
    Scores stay with their items, so that they may rise from place to place.
    """
    order = batch.order
    assert order is not None, "diversify comes after arrange"
    if not batch.diversity:
        return batch
    vectors = state.version.vectors_at(np.maximum(order.rows, 0).ravel()).reshape(*order.rows.shape, -1)
    scores = np.where(order.rows >= 0, order.scores, -np.inf).astype(np.float32)
    exact = np.take_along_axis(batch.candidates.exact, order.places, axis=1)
    new = diversified(batch.diversify_by, scores, vectors, batch.k, batch.diversity, pinned=exact)
    return batch.having(order=order.permuted(new))


def as_arranged(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch in the order that it has; None where none was asked to be unlike another."""
    return batch if batch.diversity else None
