"""Metrics beyond accuracy: diversity, calibrated categories, exposure of groups, value and revenue.

Pure functions; a figure per request is float64 [n_requests], NaN where it is undefined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.metrics.ranking import Ranked, Values, places_in
from retrieval.topk import CSR, Hits, Mask, Vectors

Codes = NDArray[np.int64]
SMOOTHING = 0.01  # share of the history's distribution mixed into the list's, so that no probability is 0


def diversity_at(hits: Hits, vectors: Vectors, k: int) -> Values:
    """Intra-list diversity: the mean of 1 - cosine over all pairs of the first k items (Ziegler et al., WWW 2005).

    `vectors` is float32 [n_items, dim]. NaN for fewer than two items.
    """
    rows = hits.rows[:, :k]
    shown = rows >= 0
    norms = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    unit = vectors / np.maximum(norms, np.float32(1e-12))
    size = shown.sum(axis=1).astype(np.float64)
    found = np.full(len(rows), np.nan)
    for line in np.flatnonzero(size > 1):
        own = unit[rows[line][shown[line]]].astype(np.float64)
        together = np.square(own.sum(axis=0)).sum() - np.square(own).sum()
        found[line] = 1 - together / (size[line] * (size[line] - 1))
    return found


def calibration_at(hits: Hits, history: CSR, codes: Codes, k: int) -> Values:
    """Calibrated categories: the Kullback-Leibler divergence of the list's categories from the history's, in bits.

    `codes` is int64 [n_items], -1 where an item has no category. 1 % of the history's distribution is mixed into that
    of the first k items (Steck, RecSys 2018). 0 means a list like the history; NaN if either has no category.
    """
    n = int(codes.max(initial=-1)) + 1
    found = np.full(len(hits.rows), np.nan)
    for line in range(len(hits.rows)):
        taken = codes[history.rows[history.indptr[line] : history.indptr[line + 1]]]
        rows = hits.rows[line, :k]
        shown = codes[rows[rows >= 0]]
        wanted, given = _distribution(taken, n), _distribution(shown, n)
        if wanted is not None and given is not None:
            mixed = (1 - SMOOTHING) * given + SMOOTHING * wanted
            some = wanted > 0
            found[line] = (wanted[some] * np.log2(wanted[some] / mixed[some])).sum()
    return found


def exposure_at(hits: Hits, codes: Codes, k: int) -> Values:
    """Each group's share of the exposure among the first k, float64 [n_groups], summing to 1.

    `codes` is int64 [n_items], the group of each item, -1 for none. A place has the exposure 1 / log2(place + 1), as in
    nDCG (Singh and Joachims, KDD 2018). All 0 if no item of any group is shown.
    """
    rows = hits.rows[:, :k]
    weights = np.broadcast_to(1 / np.log2(np.arange(2, rows.shape[1] + 2)), rows.shape)
    group = np.where(rows >= 0, codes[rows], -1)
    sums: Values = np.bincount(group[group >= 0], weights[group >= 0], int(codes.max(initial=-1)) + 1).astype(
        np.float64
    )
    return sums / sums.sum() if sums.any() else sums


def exposure_gap(shown: Values, taken: Values) -> float:
    """The total variation distance, 0 to 1, between exposure and purchases of groups, shares [n_groups] that sum to 1.

    >>> round(exposure_gap(np.array([0.7, 0.3]), np.array([0.5, 0.5])), 2)
    0.2
    """
    return float(np.abs(shown - taken).sum() / 2)


def value_recall_at(ranked: Ranked, targets: CSR, values: Values, k: int) -> Values:
    """The share of the value of a request's targets that is among the first k; with ties, its expected value.

    `values` is float64 [n_targets], at least 0, such as prices; NaN counts as 0. NaN where the targets have no value.
    """
    worth = np.nan_to_num(np.asarray(values, np.float64))
    places = places_in(ranked, targets) if isinstance(ranked, Hits) else ranked
    found = np.bincount(targets.owners, worth * places.chance(k), targets.n_lists)
    whole = np.bincount(targets.owners, worth, targets.n_lists)
    share: Values = np.divide(found, whole, out=np.full(targets.n_lists, np.nan), where=whole > 0)
    return share


def revenue_at(ranked: Ranked, targets: CSR, values: Values, k: int) -> float:
    """The share of the value of all requests' targets together that is among the first k; see `value_recall_at`."""
    worth = np.nan_to_num(np.asarray(values, np.float64))
    places = places_in(ranked, targets) if isinstance(ranked, Hits) else ranked
    return float((worth * places.chance(k)).sum() / worth.sum()) if worth.any() else float("nan")


def head_items(counts: NDArray[np.int64], share: float = 0.5) -> Mask:
    """Mask of the most popular items that together have `share` of all events, bool [n_items]; others are the tail.

    >>> head_items(np.array([1, 5, 3, 1])).tolist()
    [False, True, False, False]
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), bool)
    head[order] = (before < share * counts.sum()) & (counts[order] > 0)
    return head


def _distribution(codes: Codes, n: int) -> Values | None:
    known = codes[codes >= 0]
    return np.bincount(known, minlength=n) / len(known) if len(known) else None
