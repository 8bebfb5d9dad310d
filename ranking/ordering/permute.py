"""Puts the first places of shortlists in the order of a reranker's scores."""

from __future__ import annotations

import numpy as np

from retrieval.topk import Hits, Rows, Scores


def rerank(hits: Hits, scores: Scores, depth: int | None = None) -> Hits:
    """Permute the first `depth` places of every shortlist by descending score, among those places only.

    `scores` is float32 [n_queries, m] for the first m places; `depth` is m by default. Rows move, but the scores of
    `hits` stay at their places, so that they still descend; they remain retrieval's. A place whose score is not finite
    (padding, or a candidate that was not scored in time) keeps its row, and equal scores keep retrieval's order.
    """
    order = rerank_order(hits, scores, depth)
    rows = hits.rows.copy()
    rows[:, : order.shape[1]] = np.take_along_axis(hits.rows, order, axis=1)
    return Hits(rows, hits.scores)


def rerank_order(hits: Hits, scores: Scores, depth: int | None = None) -> Rows:
    """The old place of the row that `rerank` puts at each of the first `depth` places, int64 [n_queries, depth].

    `np.take_along_axis(scores, order, 1)` are the reranker's scores in the new order.
    """
    depth = min(scores.shape[1], hits.rows.shape[1], scores.shape[1] if depth is None else depth)
    scored = np.isfinite(scores[:, :depth]) & (hits.rows[:, :depth] >= 0)
    places = np.argsort(~scored, axis=1, kind="stable")  # scored places first, both parts in order
    sources = np.argsort(np.where(scored, -scores[:, :depth], np.inf), axis=1, kind="stable")
    order = np.empty_like(places)
    np.put_along_axis(order, places, sources, axis=1)
    return order
