"""Cold start: a linear map from an item's features to its learned vectors, for items that training did not know."""

from __future__ import annotations

import numpy as np

from retrieval.topk import Vectors

RIDGE = 1.0


def fit_linear_map(features: Vectors, learned: Vectors) -> Vectors:
    """Ridge regression of learned vectors on features: the map and its intercept, float32 [dim + 1, out].

    `features` [n, dim] and `learned` [n, out] are those of known items. The last row is the intercept. The more a
    prediction is shrunk by the ridge, the nearer it is to the mean of `learned`.
    """
    centre, mean = features.mean(axis=0, dtype=np.float64), learned.mean(axis=0, dtype=np.float64)
    near = features - centre
    map_ = np.linalg.solve(near.T @ near + RIDGE * np.eye(near.shape[1]), near.T @ (learned - mean))
    return np.vstack([map_, mean - centre @ map_]).astype(np.float32)


def apply_linear_map(features: Vectors, fitted: Vectors) -> Vectors:
    """Predicted vectors, float32 [n, out], of items with `features` [n, dim]; `fitted` is from `fit_linear_map`."""
    predicted: Vectors = features @ fitted[:-1] + fitted[-1]
    return predicted
