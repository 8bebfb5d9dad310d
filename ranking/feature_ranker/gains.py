"""How much each feature counts for a ranker, over all that it learned from rather than for one candidate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lambdamart import LambdaMARTRanker
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.mlp import MLPRanker
from ranking.feature_ranker.protocol import FeatureRanker

GAIN = "the share of the loss that splits on the feature won in training"
WEIGHT = "the share of the absolute weights of standardised features"
PATHS = "the share of the absolute weights of all paths from the standardised feature to the score"


class FeatureGains(NamedTuple):
    """The share of each feature by name, the largest first, summing to 1, and in words what it is a share of."""

    measure: str
    shares: dict[str, float]


def feature_gains(ranker: FeatureRanker) -> FeatureGains | None:
    """The gain of LambdaMART's splits; for the linear kind and the MLP, which have no splits, what stands for it. None
    for other kinds, and for a ranker that reads no feature."""
    if isinstance(ranker, LambdaMARTRanker):
        return _shares(GAIN, ranker.names, _split_gains(ranker))
    if isinstance(ranker, LinearRanker):
        return _shares(WEIGHT, ranker.names, _by_feature(ranker, ranker.weights))
    if isinstance(ranker, MLPRanker):
        return _shares(PATHS, ranker.names, _by_feature(ranker, np.abs(ranker.incoming) @ np.abs(ranker.outgoing)))
    return None


def _split_gains(ranker: LambdaMARTRanker) -> NDArray[np.floating]:
    return np.asarray(
        np.sum([np.zeros(len(ranker.names)), *(one.feature_importance("gain") for one in ranker.boosters)], axis=0)
    )


def _by_feature(ranker: LinearRanker | MLPRanker, weights: NDArray[np.float32]) -> NDArray[np.floating]:
    return np.asarray(ranker.inputs.by_feature(np.abs(weights)[None])[0])


def _shares(measure: str, names: tuple[str, ...], sizes: NDArray[np.floating]) -> FeatureGains | None:
    total = float(np.sum(sizes))
    if not total > 0:
        return None
    order = np.argsort(-sizes, kind="stable")
    return FeatureGains(measure, {names[at]: float(sizes[at]) / total for at in order if sizes[at] > 0})
