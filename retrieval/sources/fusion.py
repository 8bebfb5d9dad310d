"""Fusion of candidate sources: a weighted sum of their scores with non-negative weights, and how it is fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadBundle
from retrieval.topk import CSR, Hits, Scores

TOWERS = "towers"
PRIOR_STD = 0.5  # standard deviation of the normal prior of a weight, for features of spread 1
LEAST_SPREAD = 1e-6  # standard deviation of a feature below which it gets no weight


@dataclass(frozen=True)
class Fusion:
    """The weight of each source by name, the towers' among them. A source of weight 0 is not read.

    A weighted sum of scores orders better than reciprocal rank fusion and needs few examples to fit (Bruch et al. 2023,
    "An Analysis of Fusion Functions for Hybrid Retrieval").
    """

    weights: Mapping[str, float]

    @classmethod
    def of_towers(cls) -> Fusion:
        """The fusion that reads the towers alone."""
        return cls({TOWERS: 1.0})

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources other than the towers that have a weight above 0."""
        return tuple(name for name, weight in self.weights.items() if weight > 0 and name != TOWERS)

    def __call__(self, scores: Mapping[str, Scores]) -> Scores:
        """The weighted sum of the sources' scores by name, float32 in the shape that all of them share."""
        total = sum(self.weights[name] * scores[name] for name in (TOWERS, *self.sources) if name in self.weights)
        return np.asarray(total, np.float32)

    def __str__(self) -> str:
        return " + ".join(f"{weight:.3g} * {name}" for name, weight in self.weights.items() if weight > 0)

    def as_json(self) -> dict[str, float]:
        """The weights by name, as a JSON object."""
        return dict(self.weights)

    @classmethod
    def of(cls, weights: Mapping[str, object]) -> Fusion:
        """From the value of `as_json`. Raises BadBundle for a weight that is not a finite number of at least 0."""
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
    """Fits the weights of the sources `names`, the columns of `features`; see `listwise_weights`.

    `expected` are prior weights by name, for features of spread 1; a source that it lacks has 0. Without any pair,
    nothing tells how far scores spread, and the towers answer alone.
    """
    if not len(features):
        return Fusion.of_towers()
    weights = listwise_weights(features, labels, lists.indptr, [expected.get(name, 0.0) for name in names])
    return Fusion({name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)})


def listwise_weights(
    features: NDArray[np.floating],
    labels: NDArray[np.floating],
    indptr: NDArray[np.int64],
    expected: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Non-negative weights of least softmax cross-entropy within lists, float64 [n_features].

    `features` float [n_pairs, n_features]; `labels` float [n_pairs], above 0 for positives; list i is the pairs
    `indptr[i]:indptr[i + 1]`. The positives of a list share its target probability equally. Lists without a positive or
    without a negative are left out. `expected` [n_features] is the mean of a normal prior of standard deviation
    PRIOR_STD, for features of spread 1 (None: 0), so that a dozen lists move the weights little and a thousand override
    it. A feature without spread gets weight 0.
    """
    from scipy.optimize import minimize

    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    sizes, positives = np.diff(indptr), np.bincount(owner, labels > 0, len(indptr) - 1)
    kept = ((positives > 0) & (positives < sizes))[owner]
    spread = features[kept].std(axis=0) if kept.any() else features.std(axis=0)
    useful = spread > LEAST_SPREAD
    weights = np.zeros(features.shape[1])
    prior = (weights if expected is None else np.asarray(expected, np.float64))[useful]
    if not kept.any() or not useful.any():
        weights[useful] = prior / spread[useful]
        return weights
    scaled = np.asarray(features[kept][:, useful] / spread[useful], np.float64)
    starts = np.flatnonzero(np.diff(owner[kept], prepend=-1))
    line = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(scaled))))
    positive = (labels[kept] > 0).astype(np.float64)
    target = positive / np.add.reduceat(positive, starts)[line]

    def loss(candidate: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores, deviation = scaled @ candidate, (candidate - prior) / PRIOR_STD
        log_sum = np.logaddexp.reduceat(scores, starts)
        value = (log_sum.sum() - target @ scores + deviation @ deviation / 2) / len(starts)
        gradient = (scaled.T @ (np.exp(scores - log_sum[line]) - target) + deviation / PRIOR_STD) / len(starts)
        return float(value), gradient

    found = minimize(loss, np.ones(int(useful.sum())), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * useful.sum())
    weights[useful] = found.x / spread[useful]
    return weights


def joined_rows(lists: Sequence[Hits], n_items: int) -> CSR:
    """The union of several hits for the same requests: the distinct rows of each request, ascending."""
    keys = []
    for hits in lists:
        owner, place = np.nonzero(hits.rows >= 0)
        keys.append(owner * n_items + hits.rows[owner, place])
    sorted_keys = np.sort(np.concatenate(keys))
    distinct = sorted_keys[np.diff(sorted_keys, prepend=-1) > 0]
    indptr = np.searchsorted(distinct, np.arange(len(lists[0].rows) + 1) * n_items)
    return CSR(indptr.astype(np.int64), distinct % n_items)
