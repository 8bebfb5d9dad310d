"""The score that orders reranked candidates: a weighted sum of the reranker's logit and retrieval's scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadBundle
from retrieval.topk import Scores

MIN_LISTS = 20  # with fewer lists that hold several labels nothing is fitted
MIN_SLOPE = 0.05  # of Platt scaling: below it, the order would be lost in rounding
RIDGE = 1e-4  # L2 penalty on the weights of standardised features, so that separable data has an optimum
SOURCE_PRIOR_SD = 0.5  # standard deviation of the prior of a source's weight, for standardised scores
NO_PARTS: Mapping[str, Scores] = MappingProxyType({})


@dataclass(frozen=True)
class Blend:
    """`logit` * the reranker's logit + `retrieval` * retrieval's fused score + `offset`; by default the logit alone.

    `sources` are weights of single sources' scores, on top of what they count in the fused score. No weight but the
    offset is below 0.
    """

    logit: float = 1.0
    retrieval: float = 0.0
    offset: float = 0.0
    sources: Mapping[str, float] = field(default_factory=dict)

    def __call__(
        self, logits: NDArray[np.floating], retrieval: NDArray[np.floating], parts: Mapping[str, Scores] = NO_PARTS
    ) -> Scores:
        """The blended logits, float32 of the shape of `logits` and `retrieval`; nan where there is no logit.

        `parts` are single sources' scores by name, of the same shape; a missing source adds nothing.

        >>> Blend(2.0, 1.0, -1.0)(np.array([1.0, np.nan]), np.array([0.5, -np.inf])).tolist()
        [1.5, nan]
        >>> Blend(2.0, 1.0, sources={"words": 3.0})(np.array([1.0]), np.array([0.5]), {"words": np.ones(1)}).tolist()
        [5.5]
        """
        blended, scored = np.full(np.shape(logits), np.nan, np.float32), np.isfinite(logits)
        total = self.logit * logits[scored] + self.retrieval * retrieval[scored] + self.offset
        for name in (name for name in self.sources if name in parts):
            total = total + self.sources[name] * parts[name][scored]
        blended[scored] = total
        return blended

    def rescaled(self, slope: float, offset: float) -> Blend:
        """The blend whose value is slope * b + offset where this one's is b; with slope above 0 the order is the
        same."""
        sources = {name: slope * weight for name, weight in self.sources.items()}
        return Blend(slope * self.logit, slope * self.retrieval, slope * self.offset + offset, sources)

    def source_weights(self, fusion: Mapping[str, float]) -> dict[str, float]:
        """The weights above 0 of the logit and of each source, where `fusion` holds the sources' weights in the fused
        score. They give the same order as the blend.

        >>> Blend(2.0, 0.5, -1.0, {"words": 1.0}).source_weights({"towers": 8.0, "words": 1.0, "popularity": 0.0})
        {'logit': 2.0, 'towers': 4.0, 'words': 1.5}
        """
        every = {name: self.retrieval * weight + self.sources.get(name, 0.0) for name, weight in fusion.items()}
        return {name: weight for name, weight in ({"logit": self.logit} | every).items() if weight > 0}

    def __str__(self) -> str:
        more = "".join(f"+ {weight:.3g} * {name} " for name, weight in self.sources.items() if weight > 0)
        return f"{self.logit:.3g} * logit + {self.retrieval:.3g} * retrieval's score {more}{self.offset:+.3g}"

    def as_json(self) -> dict[str, Any]:
        """The weights by name, as JSON takes them."""
        weights = asdict(self)
        return weights if self.sources else {name: value for name, value in weights.items() if name != "sources"}

    @classmethod
    def of(cls, weights: Mapping[str, object]) -> Blend:
        """From `as_json`; raises BadBundle for a weight with an unknown name, or that is not finite or is below 0."""
        sources = weights.get("sources", {})
        if not isinstance(sources, Mapping):
            raise _foreign_weight("sources", sources)
        own = {name: value for name, value in weights.items() if name != "sources"}
        for name, value in own.items():
            if name not in cls.__dataclass_fields__:
                raise _foreign_weight(name, value)
        numbers, of_sources = ({name: _number(name, one) for name, one in group.items()} for group in (own, sources))
        return cls(**numbers, sources=of_sources)


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise _foreign_weight(name, value)
    if name != "offset" and value < 0:
        raise _foreign_weight(name, value)
    return float(value)


def _foreign_weight(name: str, value: object) -> BadBundle:
    return BadBundle(f"the blend's weight {name} = {value!r} is not of this version; train the ranker again")


def fit_blend(
    logits: NDArray[np.floating],
    retrieval: NDArray[np.floating],
    labels: NDArray[np.floating],
    indptr: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.floating]] = NO_PARTS,
) -> Blend:
    """Fit the weights of a blend by least cross-entropy on lists with known labels.

    `logits`, `retrieval`, `labels` (in [0, 1]) and each of `parts` (scores of single sources) are float [n_pairs]; list
    i is `indptr[i]:indptr[i + 1]`. With fewer than MIN_LISTS lists of several labels nothing is fitted, and the blend
    is the logit alone. Labels of 0 or 1 are fitted within their list (softmax, a conditional logit; lists of one label
    carry no information), then scaled and shifted without changing the order, so that the sigmoid of the blend is the
    probability of label 1 (Platt 1999). Graded labels are fitted pair by pair, so that the sigmoid is the expected
    label. Weights of `parts` have a normal prior around 0 with standard deviation SOURCE_PRIOR_SD, so that a few lists
    move them little.
    """
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    informative, graded = _in_mixed_lists(np.asarray(labels), owner), not np.isin(labels, (0.0, 1.0)).all()
    starts = np.flatnonzero(np.diff(owner[informative], prepend=-1))
    if len(starts) < MIN_LISTS:
        return Blend()
    kept = informative | graded
    labels, features = (
        np.asarray(labels, np.float64)[kept],
        np.column_stack([logits, retrieval, *parts.values()])[kept].astype(np.float64),
    )
    middle, spread = features.mean(axis=0), features.std(axis=0)
    useful = spread > 1e-9
    features = np.where(useful, (features - middle) / np.where(useful, spread, 1.0), 0.0)
    n_terms = len(labels) if graded else len(starts)
    penalty = np.array([RIDGE, RIDGE, *[1 / (2 * SOURCE_PRIOR_SD**2 * n_terms)] * len(parts)])
    found = _fit_weights(features, labels, penalty, starts, graded=graded)
    slopes = np.where(useful, found[:-1] / np.where(useful, spread, 1.0), 0.0)
    sources = {name: float(weight) for name, weight in zip(parts, slopes[2:], strict=True) if weight > 0}
    return Blend(float(slopes[0]), float(slopes[1]), float(found[-1] - slopes @ middle), sources)


def _fit_weights(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    penalty: NDArray[np.float64],
    starts: NDArray[np.int64],
    *,
    graded: bool,
) -> NDArray[np.float64]:
    """The weights of standardised features float [n, f], none below 0, and the offset: float64 [f + 1].

    `penalty` float [f] weighs the squares of the weights. `starts` are the first pairs of the lists within which labels
    of 0 or 1 are fitted; graded labels are fitted pair by pair.
    """
    from scipy.optimize import minimize

    def pointwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights[:-1] + weights[-1]
        return float(np.mean(np.logaddexp(0.0, blended) - labels * blended) + penalty @ weights[:-1] ** 2)

    def listwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights
        every, taken = (np.logaddexp.reduceat(v, starts) for v in (blended, np.where(labels > 0, blended, -np.inf)))
        return float(np.mean(every - taken) + penalty @ weights**2)

    first, free, positive = (
        np.array([1.0, 1.0, *[0.0] * (len(penalty) - 2)]),
        (None, None),
        [(0.0, None)] * len(penalty),
    )
    if graded:
        pointwise = minimize(pointwise_loss, np.append(first, 0.0), method="L-BFGS-B", bounds=[*positive, free])
        return np.asarray(pointwise.x)
    weights = minimize(listwise_loss, first, method="L-BFGS-B", bounds=positive).x
    slope, offset = minimize(
        lambda line: pointwise_loss(np.append(line[0] * weights, line[1])),
        np.array([1.0, 0.0]),
        method="L-BFGS-B",
        bounds=[(MIN_SLOPE, 1.0), free],
    ).x
    return np.append(slope * weights, offset)


def _in_mixed_lists(labels: NDArray[np.floating], owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs are in lists of several labels, bool [n_pairs]; `owner` int64 [n_pairs] is each pair's list."""
    lists = int(owner.max(initial=-1)) + 1
    lowest, highest = np.full(lists, np.inf), np.full(lists, -np.inf)
    np.minimum.at(lowest, owner, labels)
    np.maximum.at(highest, owner, labels)
    return np.asarray((highest > lowest)[owner])
