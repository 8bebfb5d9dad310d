"""What every source gives a candidate, its place by each, and how far it is from the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.topk import Mask, Scores

FUSED = "fused"
KINDS = ("score", "rank", "gap")


def _named(facts: ShopFacts) -> tuple[Feature, ...]:
    """The features of each source of the shop."""
    found = []
    for name in (FUSED, *facts.sources):
        found += [
            Feature(f"{name}_score", "the source's own", f"what {name} gives the candidate", "the source did not run"),
            Feature(f"{name}_rank", "log of the place", f"place in the list by {name}", "the source did not run"),
            Feature(f"{name}_gap", "spreads of the list", f"distance from the best by {name}", "it did not run"),
        ]
    return tuple(found)


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    present = shortlists.rows >= 0
    given = {FUSED: shortlists.fused, **shortlists.scores}
    ran = [name for name in (FUSED, *facts.sources) if name in given]
    lines = np.concatenate([given[name] for name in ran])  # of all sources at once, one source after the other
    columns = [np.split(column, len(ran)) for column in _of_source(lines, np.tile(present, (len(ran), 1)))]
    unknown = np.full(present.shape, np.nan, np.float32)
    return {
        f"{name}_{kind}": column[ran.index(name)] if name in given else unknown
        for name in (FUSED, *facts.sources)
        for kind, column in zip(KINDS, columns, strict=True)
    }


def _of_source(scores: Scores, present: Mask) -> tuple[Scores, Scores, Scores]:
    """Score, log2 of 1 + the place (ties share the mean place), and spreads below the best, float32 [n, k] each."""
    shown = np.where(present, scores, 0.0)
    n = np.maximum(present.sum(axis=1, keepdims=True), 1)
    mean = shown.sum(axis=1, keepdims=True) / n
    spread = np.sqrt((np.where(present, shown - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / n)
    best = np.where(present, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    gap = np.where(present, best - shown, 0.0) / np.maximum(spread, 1e-9) * (spread > 1e-9)
    rank = mean_places(np.where(present, scores, -np.inf))
    return shown.astype(np.float32), np.log2(1 + rank).astype(np.float32), gap.astype(np.float32)


def mean_places(scores: Scores) -> NDArray[np.float64]:
    """The place of each score of its line from 0, the highest first, float64 [n, k]; ties share their mean place.

    >>> mean_places(np.array([[2.0, 5.0, 2.0, 1.0]])).tolist()
    [[1.5, 0.0, 1.5, 3.0]]
    """
    k = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered, places = np.take_along_axis(scores, order, axis=1), np.arange(k)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(scores), min(k, 1)), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, changes]), places, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([changes, edge]), places, k)[:, ::-1], axis=1)[:, ::-1]
    found = np.empty(scores.shape)
    np.put_along_axis(found, order, (first + last) / 2, axis=1)
    return found


register_group(
    FeatureGroup(
        name="sources",
        reads="the score that each candidate source gives to each candidate",
        features=(),
        listed=_named,
        compute=_compute,
    )
)
