"""From scores that order to probabilities that hold: a line through the logits, and how far off they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadBundle

Numbers = NDArray[np.floating]
BINS = 10
STEEPEST, FLATTEST = 20.0, 0.05  # slopes of the line: flatter, and the order would be lost in rounding


@dataclass(frozen=True)
class Reliability:
    """What was predicted and what came true, in bins of as many pairs each, the least likely first."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    pairs: int

    @property
    def error(self) -> float:
        """The expected calibration error: how far the two are apart, on average over pairs (Guo et al., ICML 2017)."""
        return float(np.mean(np.abs(np.subtract(self.predicted, self.observed)))) if self.predicted else float("nan")


@dataclass(frozen=True)
class PlattScaling:
    """Reliability on lists that the line was not fitted on, before it and after it."""

    before: Reliability
    after: Reliability

    def as_json(self) -> dict[str, object]:
        """The fields by name, as JSON takes them, with both errors."""
        return {**asdict(self), "error_before": self.before.error, "error_after": self.after.error}

    @classmethod
    def of(cls, recorded: Mapping[str, object]) -> PlattScaling:
        """From `as_json`. Raises BadBundle for what this version does not know."""
        parts = [recorded.get(name) for name in ("before", "after")]
        try:
            before, after = (
                Reliability(tuple(part["predicted"]), tuple(part["observed"]), int(part["pairs"]))  # type: ignore[index]
                for part in parts
            )
        except (TypeError, KeyError, ValueError) as error:
            raise BadBundle("the recorded calibration is not of this version; train the ranker again") from error
        return cls(before, after)


def platt(logits: Numbers, labels: Numbers) -> tuple[float, float]:
    """The slope (above 0) and the offset under which sigmoid(slope * logit + offset) predicts labels best.

    Both are float [n], labels in [0, 1]; least cross-entropy, as in Platt (1999).
    """
    from scipy.optimize import minimize

    spread = float(np.std(logits)) or 1.0
    scaled = np.asarray(logits, np.float64) / spread

    def loss(line: NDArray[np.float64]) -> float:
        found = line[0] * scaled + line[1]
        return float(np.mean(np.logaddexp(0.0, found) - labels * found))

    bounds = [(FLATTEST * spread, STEEPEST * spread), (None, None)]
    slope, offset = minimize(loss, np.array([spread, 0.0]), method="L-BFGS-B", bounds=bounds).x
    return float(slope) / spread, float(offset)


def reliability(probabilities: Numbers, labels: Numbers, *, bins: int = BINS) -> Reliability:
    """Predicted probabilities beside shares of what came true; float [n] both.

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
