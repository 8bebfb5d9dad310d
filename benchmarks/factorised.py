"""More recommenders of the library `implicit`, used as its documentation shows: BPR and item neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.implicit_library import counted, quiet_blas
from retrieval.topk import CSR, Scores, Vectors

BPR_FACTORS = (64, 128)
NEIGHBOURS = (20, 100)


class FittedBpr(NamedTuple):
    """Factors of items and of the users that were trained on, float32 [n, factors + 1]: the last is an item's bias."""

    factors: int
    items: Vectors
    users: Vectors


class FittedNeighbours(NamedTuple):
    """What is taken together."""

    neighbours: int
    scores: Callable[[CSR], Scores]  # histories to float32 [n, n_items]; 0: nothing of the history goes with it
    megabytes: float


def fit_bpr(sequences: CSR, n_items: int, factors: int, *, seed: int) -> FittedBpr:
    """Bayesian personalised ranking (Rendle et al., UAI 2009), 100 rounds as the library has it.

    One thread, so that the same seed gives the same factors. Raises MissingDependency without `implicit`.
    """
    with quiet_blas():
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(factors=factors, random_state=seed, num_threads=1)
        model.fit(counted(sequences, n_items), show_progress=False)
    return FittedBpr(factors, model.item_factors, model.user_factors)


def fit_neighbours(sequences: CSR, n_items: int, neighbours: int) -> FittedNeighbours:
    """Items by the cosine of who took them, `CosineRecommender`. Raises MissingDependency without `implicit`."""
    with quiet_blas(), warnings.catch_warnings():
        from implicit.nearest_neighbours import CosineRecommender
        from implicit.utils import ParameterWarning

        warnings.simplefilter("ignore", ParameterWarning)  # of what the library hands to itself
        model = CosineRecommender(K=neighbours)
        model.fit(counted(sequences, n_items), show_progress=False)
    similar = model.similarity
    held = similar.data.nbytes + similar.indices.nbytes + similar.indptr.nbytes

    def scores(histories: CSR) -> Scores:
        found: Scores = np.asarray((counted(histories, n_items) @ similar).todense(), np.float32)
        return found

    return FittedNeighbours(neighbours, scores, held / 1e6)
