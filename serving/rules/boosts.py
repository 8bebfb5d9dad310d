"""Relevance on one scale, whatever scored it, and what boosts add to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Mask, Rows, Scores
from serving.rules.prepared import Prepared
from serving.rules.schema import Boost

Floats = NDArray[np.float64]


def standardised(values: Floats | Scores, known: Mask) -> Floats:
    """Values [n, k] in standard deviations from the mean of their line's known ones; 0 where all are equal, and for
    what is not known.

    >>> standardised(np.array([[3.0, 1.0, 9.0]]), np.array([[True, True, False]])).tolist()
    [[1.0, -1.0, 0.0]]
    """
    filled = np.where(known, values, 0.0).astype(np.float64)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    distance = np.where(known, filled - filled.sum(axis=1, keepdims=True) / count, 0.0)
    spread = np.sqrt((distance**2).sum(axis=1, keepdims=True) / count)
    found: Floats = distance / np.where(spread > 1e-12, spread, 1.0)
    return found


def relevance(rows: Rows, scores: Scores) -> Floats:
    """Scores of shortlists [n, k], best first, in standard deviations; -inf at a pad, and no higher than the place
    before."""
    there = rows >= 0
    finite = np.where(np.isfinite(scores), scores, np.inf)
    lowest = np.where(np.isfinite(least := finite.min(axis=1, keepdims=True, initial=np.inf)), least, 0.0)
    found = standardised(np.where(np.isfinite(scores), scores, lowest), there)
    return np.where(there, np.minimum.accumulate(found, axis=1), -np.inf)


def shift(rows: Rows, boost: Prepared) -> Floats:
    """What a rule adds to the relevance of each item of shortlists, rows int64 [n, k] with -1 at a pad."""
    rule = boost.rule
    assert isinstance(rule, Boost), "only boosts move items"
    there, at = rows >= 0, np.maximum(rows, 0)
    if boost.numbers is not None:
        numbers = boost.numbers[at]
        return rule.signed * standardised(np.nan_to_num(numbers), there & np.isfinite(numbers))
    return np.where(there & (boost.mask[at] if boost.mask is not None else False), rule.signed, 0.0)


def reordered(relevances: Floats, fixed: Mask) -> NDArray[np.int64]:
    """The places of shortlists by relevance float64 [n, k], int64 [n, k]; `fixed` ones stay in front, equal ones keep
    their order."""
    return np.argsort(np.where(fixed, -np.inf, -relevances), axis=1, kind="stable")


def total(rows: Rows, boosts: Sequence[Prepared]) -> tuple[Floats, list[Floats]]:
    """What all boosts together add, and each of them."""
    each = [shift(rows, one) for one in boosts]
    return sum(each, np.zeros(rows.shape)), each
