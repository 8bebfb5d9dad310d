"""What every source gives a candidate, its place by each, and how far it is from the best."""

from __future__ import annotations

import numpy as np

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
    found: dict[str, Scores] = {}
    for name in (FUSED, *facts.sources):
        scores = shortlists.fused if name == FUSED else shortlists.scores.get(name)
        if scores is None:
            columns = (np.full(present.shape, np.nan, np.float32),) * len(KINDS)
        else:
            columns = _of_source(scores, present)
        found |= {f"{name}_{kind}": column for kind, column in zip(KINDS, columns, strict=True)}
    return found


def _of_source(scores: Scores, present: Mask) -> tuple[Scores, Scores, Scores]:
    """Score, log2 of 1 + the place (ties share the mean place), and spreads below the best, float32 [n, k] each."""
    low = np.where(present, scores, -np.inf)
    ordered = np.sort(-low, axis=1)
    rank = np.empty(scores.shape, np.float32)
    for line in range(len(scores)):
        first = np.searchsorted(ordered[line], -low[line], side="left")
        last = np.searchsorted(ordered[line], -low[line], side="right")
        rank[line] = (first + last - 1) / 2
    shown = np.where(present, scores, 0.0)
    n = np.maximum(present.sum(axis=1, keepdims=True), 1)
    mean = shown.sum(axis=1, keepdims=True) / n
    spread = np.sqrt((np.where(present, scores - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / n)
    best = low.max(axis=1, keepdims=True)
    best = np.where(np.isfinite(best), best, 0.0)
    gap = np.where(present, best - shown, 0.0) / np.maximum(spread, 1e-9) * (spread > 1e-9)
    return shown.astype(np.float32), np.log2(1 + rank), gap.astype(np.float32)


register_group(
    FeatureGroup(
        name="sources",
        reads="the score that each candidate source gives to each candidate",
        features=(),
        listed=_named,
        compute=_compute,
    )
)
