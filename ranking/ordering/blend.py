"""The order's last word: a weighted sum of the cross-encoder's logit and retrieval's score, with no weight below 0."""

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

MIN_LISTS = 20  # fewer lists that tell good from bad cannot tell two weights apart
FLATTEST = 0.05  # of what a list's own order asks for: flatter still, and it would be lost
RIDGE = 1e-4  # on the weights of features of spread 1: what separates perfectly still ends somewhere
SOURCE_PRIOR_SD = (
    0.5  # how far a source may well count for more than in retrieval's score, of spread 1: standard deviation
)
NO_PARTS: Mapping[str, Scores] = MappingProxyType({})


@dataclass(frozen=True)
class Blend:
    """`logit` * the cross-encoder's logit + `retrieval` * retrieval's score + `offset`; by default the logit alone.

    `sources` are weights of what single sources gave, beside what they count in retrieval's score.
    """

    logit: float = 1.0
    retrieval: float = 0.0
    offset: float = 0.0
    sources: Mapping[str, float] = field(default_factory=dict)

    def __call__(
        self, logits: NDArray[np.floating], retrieval: NDArray[np.floating], parts: Mapping[str, Scores] = NO_PARTS
    ) -> Scores:
        """The blended logits, of the shape of all, float32; nan where there is no logit, whatever else is said. `parts`
        are what sources gave, by name; one that is not there counts for nothing, as in retrieval's score.

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
        """The same order, each blended logit b as slope * b + offset."""
        sources = {name: slope * weight for name, weight in self.sources.items()}
        return Blend(slope * self.logit, slope * self.retrieval, slope * self.offset + offset, sources)

    def source_weights(self, fusion: Mapping[str, float]) -> dict[str, float]:
        """The weights of the same order with retrieval's score taken apart into its sources, whose weights in it
        `fusion` holds: of the logit and of each source, those that count for nothing left out.

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
        told = asdict(self)
        return told if self.sources else {name: weight for name, weight in told.items() if name != "sources"}

    @classmethod
    def of(cls, weights: Mapping[str, object]) -> Blend:
        """From `as_json`. Raises BadBundle for a weight that is not known, no finite number or below 0."""
        sources = weights.get("sources", {})
        if not isinstance(sources, Mapping):
            raise _not_ours("sources", sources)
        own = {name: value for name, value in weights.items() if name != "sources"}
        for name, value in own.items():
            if name not in cls.__dataclass_fields__:
                raise _not_ours(name, value)
        numbers, beside = ({name: _number(name, value) for name, value in told.items()} for told in (own, sources))
        return cls(**numbers, sources=beside)


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise _not_ours(name, value)
    if name != "offset" and value < 0:
        raise _not_ours(name, value)
    return float(value)


def _not_ours(name: str, value: object) -> BadBundle:
    return BadBundle(f"the blend's weight {name} = {value!r} is not of this version; train the ranker again")


def fit_blend(
    logits: NDArray[np.floating],
    retrieval: NDArray[np.floating],
    labels: NDArray[np.floating],
    indptr: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.floating]] = NO_PARTS,
) -> Blend:
    """The weights of least cross-entropy over lists whose outcome is known.

    `logits`, `retrieval`, `labels` (in [0, 1]) and each of `parts`, what single sources gave, are float [n_pairs]; list
    i is `indptr[i]:indptr[i + 1]`. With fewer than MIN_LISTS lists of more than one label nothing is fitted, and the
    logit stands alone. Labels of 0 or 1 are told within their list (softmax, a conditional logit: only the order
    matters; lists of one label tell nothing), graded ones each by themselves, so that the sigmoid of the blend is the
    expected label. What was told within lists is then flattened and shifted to be that as well (Platt 1999), which
    changes no order. Parts are expected to count for nothing beside retrieval's score, under a normal prior of standard
    deviation SOURCE_PRIOR_SD: a few lists move them little.
    """
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    telling, graded = _pairs_that_tell(np.asarray(labels), owner), not np.isin(labels, (0.0, 1.0)).all()
    starts = np.flatnonzero(np.diff(owner[telling], prepend=-1))
    if len(starts) < MIN_LISTS:
        return Blend()
    from scipy.optimize import minimize

    kept = telling | graded
    labels, features = (
        np.asarray(labels, np.float64)[kept],
        np.column_stack([logits, retrieval, *parts.values()])[kept].astype(np.float64),
    )
    middle, spread = features.mean(axis=0), features.std(axis=0)
    useful = spread > 1e-9
    features = np.where(useful, (features - middle) / np.where(useful, spread, 1.0), 0.0)
    told = len(labels) if graded else len(starts)
    penalty = np.array([RIDGE, RIDGE, *[1 / (2 * SOURCE_PRIOR_SD**2 * told)] * len(parts)])

    def pointwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights[:-1] + weights[-1]
        return float(np.mean(np.logaddexp(0.0, blended) - labels * blended) + penalty @ weights[:-1] ** 2)

    def listwise_loss(weights: NDArray[np.float64]) -> float:
        blended = features @ weights
        every, taken = (np.logaddexp.reduceat(v, starts) for v in (blended, np.where(labels > 0, blended, -np.inf)))
        return float(np.mean(every - taken) + penalty @ weights**2)

    first, free, positive = np.array([1.0, 1.0, *[0.0] * len(parts)]), (None, None), [(0.0, None)] * len(penalty)
    if graded:
        found = minimize(pointwise_loss, np.append(first, 0.0), method="L-BFGS-B", bounds=[*positive, free]).x
    else:
        weights = minimize(listwise_loss, first, method="L-BFGS-B", bounds=positive).x
        steep, offset = minimize(
            lambda line: pointwise_loss(np.append(line[0] * weights, line[1])),
            np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(FLATTEST, 1.0), free],
        ).x  # fmt: skip
        found = np.append(steep * weights, offset)
    slopes = np.where(useful, found[:-1] / np.where(useful, spread, 1.0), 0.0)
    sources = {name: float(weight) for name, weight in zip(parts, slopes[2:], strict=True) if weight > 0}
    return Blend(float(slopes[0]), float(slopes[1]), float(found[-1] - slopes @ middle), sources)


def _pairs_that_tell(labels: NDArray[np.floating], owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The pairs of lists that hold more than one label, bool [n_pairs]; `owner` names each pair's list."""
    lists = int(owner.max(initial=-1)) + 1
    lowest, highest = np.full(lists, np.inf), np.full(lists, -np.inf)
    np.minimum.at(lowest, owner, labels)
    np.maximum.at(highest, owner, labels)
    return np.asarray((highest > lowest)[owner])
