"""Stage 8: the order that is answered, and the scores that are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.version.item_groups import ItemGroups
from ranking.models.cross_encoder import sigmoid
from retrieval.topk import Mask
from serving.answering.batch import Batch, Order, Ranking
from serving.answering.deadline import Deadline

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def arrange(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `candidates`, `scored` and `ranking`, writes `order`: where the request asks for one item of each group,
    the best of them, which rules that move items choose later."""
    hits, ranking = batch.candidates.hits, batch.ranking
    if ranking is None:
        rows, scores, places = hits.rows, hits.scores, np.broadcast_to(np.arange(hits.rows.shape[1]), hits.rows.shape)
    else:
        rows, scores, places = ranking.hits.rows, shown_scores(state, ranking), ranking.places
    before = places if batch.scored is None else np.take_along_axis(batch.scored.places, places, axis=1)
    later = batch.rules is not None and batch.rules.reorders
    groups = state.version.groups if batch.one_per_group and not later else None
    order = Order(rows, scores, places, before)
    return batch.having(order=order if groups is None else _one_per_group(order, groups))


def _one_per_group(order: Order, groups: ItemGroups) -> Order:
    """The order with the best item of each group alone, the others out of it."""
    first = groups.first_of_each(order.rows)
    kept = np.argsort(~first, axis=1, kind="stable")
    shown = order.permuted(kept)
    return shown._replace(rows=np.where(np.take_along_axis(first, kept, axis=1), shown.rows, -1))


def shown_scores(state: ReleaseState, ranking: Ranking) -> NDArray[np.float32]:
    """float32 [n, k], never rising from place to place.

    Where a place was reranked, the blended logit of the last step that read it under that model's activation (without a
    blend what `CrossEncoder.predict` gives), else retrieval's score; but no more than the place before, for scores of
    another kind give way. What stands in front of all that was reranked has no less than that.
    """
    shown = ranking.hits.scores.copy()
    for number, step in enumerate(state.steps):
        of_step = ranking.read_by == number
        logits = ranking.logits[of_step]
        shown[of_step] = sigmoid(logits) if step.scorer.activation == "sigmoid" else logits
    return _never_rising(shown, ranking.read_by >= 0)


def _never_rising(scores: NDArray[np.float32], reranked: Mask) -> NDArray[np.float32]:
    """Scores [n, k] capped by the place before; those in front of the first that was reranked are raised to its own."""
    first = np.take_along_axis(scores, reranked.argmax(axis=1, keepdims=True), axis=1)
    in_front = reranked.any(axis=1, keepdims=True) & (np.cumsum(reranked, axis=1) == 0)
    found: NDArray[np.float32] = np.minimum.accumulate(np.where(in_front, np.maximum(scores, first), scores), axis=1)
    return found
