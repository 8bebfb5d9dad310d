"""Hard negatives: items that a model ranks high for a query which they are not known to answer."""

from __future__ import annotations

import numpy as np

from retrieval.topk import CSR, Mask, Rows, Scores, Vectors, exact_topk


def mine_negatives(
    queries: Vectors,
    items: Vectors,
    positive: Rows,
    known: CSR,
    *,
    count: int,
    window: tuple[int, int],
    margin: float | None,
    rng: np.random.Generator,
    pool: Mask | None = None,
) -> Rows:
    """`count` negatives of each query, int64 [n_queries, count] rows of `items`; -1 pads where there are fewer.

    They are drawn evenly from the ranks `window[0]` up to `window[1]` among what is not known to be good: `known` holds
    each query's list of such rows, `positive` int64 [n_queries] the one that the query is trained to find. A candidate
    that scores above its positive less `margin` is suspected to be good as well and left out (Moreira et al. 2024);
    with no margin, none is. `pool` bool [n_items] names the rows that may be drawn, and may leave out positives.
    """
    found = exact_topk(queries, items, window[1], allowed=pool, exclude=known)
    rows, scores = found.rows[:, window[0] :], found.scores[:, window[0] :]
    usable = (rows >= 0) & (rows != positive[:, None])
    if margin is not None:
        of_positive = np.einsum("nd,nd->n", queries, items[positive])
        usable &= scores <= (of_positive - margin)[:, None]
    keys = np.where(usable, rng.random(rows.shape), np.inf)
    drawn = np.argsort(keys, axis=1, kind="stable")[:, :count]
    return np.where(np.take_along_axis(usable, drawn, 1), np.take_along_axis(rows, drawn, 1), -1)


def veto_negatives(negatives: Rows, scores: Scores, positive: Scores) -> Rows:
    """`negatives` [n, count] without those that a better judge scores above their positive, -1 in their place.

    `scores` float [n, count] of the negatives, `positive` float [n].
    """
    return np.where(scores > positive[:, None], -1, negatives)
