"""Platt scaling: a line through the logits that makes probabilities of them, and how reliable those are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadBundle

Numbers = NDArray[np.floating]
BINS = 10
MAX_SLOPE, MIN_SLOPE = 20.0, 0.05  # below the minimum, the order would be lost in rounding


@dataclass(frozen=True)
class Reliability:
    """Mean predicted probability and observed share of bins with equal numbers of pairs, lowest prediction first."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    pairs: int

    @property
    def error(self) -> float:
        """The expected calibration error: the mean absolute difference of both over bins (Guo et al., ICML 2017)."""
        return float(np.mean(np.abs(np.subtract(self.predicted, self.observed)))) if self.predicted else float("nan")


@dataclass(frozen=True)
class PlattScaling:
    """Reliability before and after Platt scaling, on lists that it was not fitted on."""

    before: Reliability
    after: Reliability

    def as_json(self) -> dict[str, object]:
        """The fields by name, as JSON takes them, with both errors."""
        return {**asdict(self), "error_before": self.before.error, "error_after": self.after.error}

    @classmethod
    def of(cls, recorded: Mapping[str, object]) -> PlattScaling:
        """From `as_json`; raises BadBundle for anything else."""
        parts = [recorded.get(name) for name in ("before", "after")]
        try:
            before, after = (
                Reliability(tuple(part["predicted"]), tuple(part["observed"]), int(part["pairs"]))  # type: ignore[index]
                for part in parts
            )
        except (TypeError, KeyError, ValueError) as error:
            raise BadBundle("the recorded Platt scaling is not of this version; train the ranker again") from error
        return cls(before, after)


def platt(logits: Numbers, labels: Numbers) -> tuple[float, float]:
    """The slope (above 0) and the offset with which sigmoid(slope * logit + offset) predicts labels best.

    logits and labels are float [n], labels in [0, 1]; fitted by least cross-entropy, as in Platt (1999).
    """
    from scipy.optimize import minimize

    spread = float(np.std(logits)) or 1.0
    scaled = np.asarray(logits, np.float64) / spread

    def loss(line: NDArray[np.float64]) -> float:
        found = line[0] * scaled + line[1]
        return float(np.mean(np.logaddexp(0.0, found) - labels * found))

    bounds = [(MIN_SLOPE * spread, MAX_SLOPE * spread), (None, None)]
    slope, offset = minimize(loss, np.array([spread, 0.0]), method="L-BFGS-B", bounds=bounds).x
    return float(slope) / spread, float(offset)


def reliability(probabilities: Numbers, labels: Numbers, *, bins: int = BINS) -> Reliability:
    """Predicted probabilities against the observed labels, float [n] each, in `bins` bins.

    >>> found = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0]), bins=2)
    >>> found.predicted, found.observed, round(found.error, 2)
    ((0.1, 0.9), (0.0, 0.5), 0.25)
    """
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        tuple(round(float(np.mean(probabilities[part])), 6) for part in parts),
        tuple(round(float(np.mean(labels[part])), 6) for part in parts),
        len(order),
    )
