"""The order that a cross-encoder gives to the head of a shortlist."""

from __future__ import annotations

import numpy as np

from retrieval.topk import Hits, Rows, Scores


def rerank(hits: Hits, scores: Scores, depth: int | None = None) -> Hits:
    """Permute the first `depth` places of every shortlist by descending score, among those places only.

    `scores` is float32 [n_queries, m], one for each of the first m places; depth is m where it is not given. Rows move,
    the scores of `hits` stay with their places: they fall from first to last as before, and belong to retrieval. A
    place whose score is not finite (a pad, or a candidate that could not be scored in time) keeps its row, and equal
    scores keep retrieval's order. What lies beyond `depth` is untouched.
    """
    order = rerank_order(hits, scores, depth)
    rows = hits.rows.copy()
    rows[:, : order.shape[1]] = np.take_along_axis(hits.rows, order, axis=1)
    return Hits(rows, hits.scores)


def rerank_order(hits: Hits, scores: Scores, depth: int | None = None) -> Rows:
    """The old place of what now stands at each of the first `depth` places, int64 [n_queries, depth].

    `np.take_along_axis(scores, order, 1)` gives the cross-encoder's scores in the new order. See `rerank`.
    """
    depth = min(scores.shape[1], hits.rows.shape[1], scores.shape[1] if depth is None else depth)
    scored = np.isfinite(scores[:, :depth]) & (hits.rows[:, :depth] >= 0)
    places = np.argsort(~scored, axis=1, kind="stable")  # those that may move first, each part in order
    sources = np.argsort(np.where(scored, -scores[:, :depth], np.inf), axis=1, kind="stable")
    order = np.empty_like(places)
    np.put_along_axis(order, places, sources, axis=1)
    return order
