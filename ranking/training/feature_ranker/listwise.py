"""Softmax cross-entropy within lists, and the weight of the base score by it alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lists import TrainingLists

Values = NDArray[np.float64]
BASE_PRIOR_SD = 5.0  # standard deviation of the prior of the base's weight, for a base of spread 1 within lists
LEAST_BASE = 0.01  # least weight of a base of spread 1: where nothing else speaks, its order stays


@dataclass(frozen=True)
class ListwiseLoss:
    """-sum(target * log softmax(scores)) of each list; its wanted candidates share the target by their labels.

    Every list holds at least one wanted candidate. ListNet's top-one loss (Cao et al., ICML 2007) with sparse targets.
    """

    starts: NDArray[np.int64]  # [n_lists]  the first pair of each list
    owners: NDArray[np.int64]  # [n_pairs]
    target: Values  # [n_pairs]  sums to 1 within a list

    @classmethod
    def of(cls, lists: TrainingLists) -> ListwiseLoss:
        """The loss on `lists`, which are informative."""
        owners, wanted = lists.owners, np.maximum(lists.labels, 0).astype(np.float64)
        return cls(lists.indptr[:-1], owners, wanted / np.bincount(owners, wanted, lists.n_lists)[owners])

    def __call__(self, scores: NDArray[np.floating]) -> tuple[Values, Values]:
        """The loss of each list float64 [n_lists], and its derivative by each score float64 [n_pairs]."""
        scores = scores.astype(np.float64)
        highest = np.maximum.reduceat(scores, self.starts)
        raised = np.exp(scores - highest[self.owners])
        total = np.add.reduceat(raised, self.starts)
        losses = np.log(total) + highest - np.add.reduceat(self.target * scores, self.starts)
        return losses, raised / total[self.owners] - self.target


def spread_within_lists(lists: TrainingLists) -> float:
    """The standard deviation of the base within its list, pooled over lists; 1 where there is none."""
    if not len(lists.base):
        return 1.0
    base, owners = lists.base.astype(np.float64), lists.owners
    mean = np.bincount(owners, base, lists.n_lists) / np.maximum(lists.sizes, 1)
    spread = float(np.sqrt(np.mean((base - mean[owners]) ** 2)))
    return spread if spread > 1e-6 * float(np.abs(base).max()) else 1.0


def base_weight(lists: TrainingLists) -> float:
    """The weight of the base score, above 0, by which alone the labels of informative lists are likeliest; 1 if none.

    With a normal prior around 0 of standard deviation BASE_PRIOR_SD, for a base of spread 1 within lists.
    """
    from scipy.optimize import minimize_scalar

    if not lists.n_lists:
        return 1.0
    spread, loss = spread_within_lists(lists), ListwiseLoss.of(lists)
    base = lists.base / spread
    found = minimize_scalar(
        lambda weight: float(loss(weight * base)[0].sum()) + (weight / BASE_PRIOR_SD) ** 2 / 2,
        bounds=(LEAST_BASE, 10 * BASE_PRIOR_SD),
        method="bounded",
    )
    return float(found.x) / spread
