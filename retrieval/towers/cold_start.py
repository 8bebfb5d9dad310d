"""What training learned of each known item, guessed for one that it did not know."""

from __future__ import annotations

import numpy as np

from retrieval.topk import Vectors

RIDGE = 1.0


def fit_guess(features: Vectors, learned: Vectors) -> Vectors:
    """The linear map of least ridge error from `features` [n, dim] of known items to what was `learned` of them
    [n, out], float32 [dim + 1, out]; its last row is the mean, which alone is guessed where nothing else is known.

    Guesses are shrunk: an item whose features say little is given what the mean item has.
    """
    centre, mean = features.mean(axis=0, dtype=np.float64), learned.mean(axis=0, dtype=np.float64)
    near = features - centre
    map_ = np.linalg.solve(near.T @ near + RIDGE * np.eye(near.shape[1]), near.T @ (learned - mean))
    return np.vstack([map_, mean - centre @ map_]).astype(np.float32)


def guess(features: Vectors, fitted: Vectors) -> Vectors:
    """What `fit_guess` says of items by their features [n, dim], float32 [n, out]."""
    guessed: Vectors = features @ fitted[:-1] + fitted[-1]
    return guessed
