"""The order's last word: a weighted sum of the cross-encoder's logit and retrieval's score, with no weight below 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Scores

MIN_LISTS = 20  # fewer lists than this cannot tell two weights apart


@dataclass(frozen=True)
class Blend:
    """`logit` * the cross-encoder's logit + `retrieval` * retrieval's score + `offset`; by default the logit alone."""

    logit: float = 1.0
    retrieval: float = 0.0
    offset: float = 0.0

    def __call__(self, logits: NDArray[np.floating], retrieval: NDArray[np.floating]) -> Scores:
        """The blended logits, of the shape of both, float32; nan where a logit is.

        >>> Blend(2.0, 1.0, -1.0)(np.array([1.0, 0.5]), np.array([0.5, 0.0])).tolist()
        [1.5, 0.0]
        """
        blended: Scores = (self.logit * logits + self.retrieval * retrieval + self.offset).astype(np.float32)
        return blended

    def __str__(self) -> str:
        return f"{self.logit:.3g} * logit + {self.retrieval:.3g} * retrieval's score {self.offset:+.3g}"

    def as_json(self) -> dict[str, float]:
        """The weights by name, as JSON takes them."""
        return asdict(self)

    @classmethod
    def of(cls, weights: Mapping[str, object]) -> Blend:
        """From `as_json`; TypeError where a weight is not a number."""
        return cls(**{name: _number(value) for name, value in weights.items()})


def fit_blend(
    logits: NDArray[np.floating],
    retrieval: NDArray[np.floating],
    labels: NDArray[np.floating],
    indptr: NDArray[np.int64],
) -> Blend:
    """The weights of least cross-entropy over lists whose outcome is known; the logit alone under MIN_LISTS of them.

    `logits`, `retrieval` and `labels` (in [0, 1]) are float [n_pairs]; list i is `indptr[i]:indptr[i + 1]`. Labels that
    are 0 or 1 are told within their list (softmax, a conditional logit: only the order matters); graded ones each by
    themselves, so that the sigmoid of the blend is the expected label. The offset makes it so for both on average.
    """
    filled = np.flatnonzero(np.diff(indptr))
    if len(filled) < MIN_LISTS:
        return Blend()
    from scipy.optimize import minimize

    features = np.column_stack([logits, retrieval]).astype(np.float64)
    spread = features.std(axis=0)
    spread[spread < 1e-9] = 1.0
    features = (features - features.mean(axis=0)) / spread
    labels, starts = np.asarray(labels, np.float64), indptr[filled]
    listwise = bool(np.isin(labels, (0.0, 1.0)).all())

    def pointwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights[:2] + weights[2]
        return float(np.mean(np.logaddexp(0.0, blended) - labels * blended))

    def listwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights
        every, taken = (np.logaddexp.reduceat(v, starts) for v in (blended, np.where(labels > 0, blended, -np.inf)))
        known = np.isfinite(taken)
        return float(np.mean((every - taken)[known])) if known.any() else 0.0

    free, positive = (None, None), (0.0, None)
    if listwise:
        weights = minimize(listwise_loss, np.ones(2), method="L-BFGS-B", bounds=[positive] * 2).x
        offset = minimize(lambda c: pointwise_loss(np.append(weights, c)), np.zeros(1), method="L-BFGS-B").x
        found = np.append(weights, offset)
    else:
        found = minimize(pointwise_loss, np.array([1.0, 1.0, 0.0]), method="L-BFGS-B", bounds=[positive] * 2 + [free]).x
    slopes = found[:2] / spread
    shift = found[2] - float(slopes @ np.array([np.mean(logits), np.mean(retrieval)]))
    return Blend(float(slopes[0]), float(slopes[1]), float(shift))


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a weight is a number, not {type(value).__name__}")
    return float(value)
