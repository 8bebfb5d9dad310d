"""Labelled lists with a known order, for tests of feature rankers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lists import TrainingLists

Floats = NDArray[np.float32]
SIZE = 20


def chosen_lists(
    n_lists: int,
    utility: Callable[[Floats, Floats], Floats],
    *,
    n_features: int = 5,
    missing: float = 0.0,
    seed: int = 0,
) -> TrainingLists:
    """Lists of SIZE candidates of which a shopper of a multinomial logit with `utility`(features, base) takes one.

    Features and base are normal; then a share `missing` of the features is nan.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(n_lists * SIZE, n_features)).astype(np.float32)
    base = random.normal(size=n_lists * SIZE).astype(np.float32)
    noisy = (utility(features, base) + random.gumbel(size=len(base))).reshape(n_lists, SIZE)
    labels = (noisy == noisy.max(axis=1, keepdims=True)).astype(np.float32).ravel()
    features[random.random(features.shape) < missing] = np.nan
    names = tuple(f"feature {column}" for column in range(n_features))
    return TrainingLists(features, base, labels, np.arange(n_lists + 1) * SIZE, names)


def linear_utility(features: Floats, base: Floats) -> Floats:
    """Half the base, the first feature for, the second against."""
    return np.asarray(0.5 * base + 1.5 * features[:, 0] - 0.8 * features[:, 1], np.float32)


def interaction(features: Floats, base: Floats) -> Floats:
    """The base, and the product of two features, which says nothing of each alone."""
    return np.asarray(base + 2.0 * features[:, 0] * features[:, 1], np.float32)
