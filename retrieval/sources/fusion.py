"""One order out of several candidate sources: a weighted sum of their scores, with no weight below 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadBundle
from retrieval.topk import CSR, Hits, Scores

TOWERS = "towers"
DOUBT = 0.5  # how far off what is expected of a weight may well be, in standard deviations of its feature
LEAST_SPREAD = 1e-6  # of a feature, under which it tells nothing and gets no weight


@dataclass(frozen=True)
class Fusion:
    """The weight of each source by its name, the towers' among them; by default the towers stand alone.

    A convex combination of scores, which orders better than reciprocal ranks and needs few examples (Bruch et al. 2023,
    "An Analysis of Fusion Functions for Hybrid Retrieval"). A source of weight 0 is not read.
    """

    weights: Mapping[str, float]

    @classmethod
    def of_towers(cls) -> Fusion:
        """The towers alone."""
        return cls({TOWERS: 1.0})

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources beside the towers that count for something."""
        return tuple(name for name, weight in self.weights.items() if weight > 0 and name != TOWERS)

    def __call__(self, scores: Mapping[str, Scores]) -> Scores:
        """The weighted sum of the sources' scores, float32, each of them of one shape."""
        total = sum(self.weights[name] * scores[name] for name in (TOWERS, *self.sources) if name in self.weights)
        return np.asarray(total, np.float32)

    def __str__(self) -> str:
        return " + ".join(f"{weight:.3g} * {name}" for name, weight in self.weights.items() if weight > 0)

    def as_json(self) -> dict[str, float]:
        """The weights by name, as JSON takes them."""
        return dict(self.weights)

    @classmethod
    def of(cls, weights: Mapping[str, object]) -> Fusion:
        """From `as_json`. Raises BadBundle for a weight that is no finite number from 0."""
        for name, value in weights.items():
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise BadBundle(
                    f"the fusion's weight {name} = {value!r} is not of this version; "
                    "run: shortlist run BUNDLE --data DATA"
                )
        return cls({name: float(value) for name, value in weights.items()})  # type: ignore[arg-type]


def fit_fusion(
    names: Sequence[str],
    features: NDArray[np.floating],
    labels: NDArray[np.floating],
    lists: CSR,
    expected: Mapping[str, float],
) -> Fusion:
    """The weights of `names` under which lists with a known outcome are likeliest, see `listwise_weights`.

    `expected` are their weights where nothing is told, for features of spread 1; a name that it lacks has 0.
    """
    weights = listwise_weights(features, labels, lists.indptr, [expected.get(name, 0.0) for name in names])
    return Fusion({name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)})


def listwise_weights(
    features: NDArray[np.floating],
    labels: NDArray[np.floating],
    indptr: NDArray[np.int64],
    expected: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Weights from 0 of least softmax cross-entropy within lists, float64 [n_features].

    `features` float [n_pairs, n_features], `labels` 1 for what was taken, else 0, float [n_pairs]; list i is
    `indptr[i]:indptr[i + 1]`. Every positive of a list has an equal part in it; a list without one, or of nothing else,
    tells nothing. `expected` [n_features] are the weights before anything is told, for features of spread 1 (none: all
    0): the estimate is the likeliest under a normal prior of standard deviation DOUBT around them, so that a dozen
    lists move them a little and a thousand forget them. A feature without spread gets weight 0.
    """
    from scipy.optimize import minimize

    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    sizes, taken = np.diff(indptr), np.bincount(owner, labels > 0, len(indptr) - 1)
    kept = ((taken > 0) & (taken < sizes))[owner]
    spread = features[kept].std(axis=0) if kept.any() else features.std(axis=0)
    useful = spread > LEAST_SPREAD
    weights = np.zeros(features.shape[1])
    before = (weights if expected is None else np.asarray(expected, np.float64))[useful]
    if not kept.any() or not useful.any():
        weights[useful] = before / spread[useful]
        return weights
    scaled = np.asarray(features[kept][:, useful] / spread[useful], np.float64)
    starts = np.flatnonzero(np.diff(owner[kept], prepend=-1))
    line = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(scaled))))
    positive = (labels[kept] > 0).astype(np.float64)
    wanted = positive / np.add.reduceat(positive, starts)[line]

    def loss(tried: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores, off = scaled @ tried, (tried - before) / DOUBT
        log_sum = np.logaddexp.reduceat(scores, starts)
        value = (log_sum.sum() - wanted @ scores + off @ off / 2) / len(starts)
        slope = (scaled.T @ (np.exp(scores - log_sum[line]) - wanted) + off / DOUBT) / len(starts)
        return float(value), slope

    found = minimize(loss, np.ones(int(useful.sum())), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * useful.sum())
    weights[useful] = found.x / spread[useful]
    return weights


def joined_rows(lists: Sequence[Hits], n_items: int) -> CSR:
    """The distinct rows that any of some hits holds for each request, ascending."""
    keys = []
    for hits in lists:
        owner, place = np.nonzero(hits.rows >= 0)
        keys.append(owner * n_items + hits.rows[owner, place])
    distinct = np.unique(np.concatenate(keys))
    indptr = np.searchsorted(distinct, np.arange(len(lists[0].rows) + 1) * n_items)
    return CSR(indptr.astype(np.int64), distinct % n_items)
