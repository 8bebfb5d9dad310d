"""More recommenders of the library `implicit`, used as its documentation shows: BPR and item neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from benchmarks.peers.implicit import counted, quiet_blas
from retrieval.topk import CSR, Scores, Vectors

Measure: TypeAlias = Literal["cosine", "tfidf", "bm25"]


class BprConfig(NamedTuple):
    """Settings of a factorisation."""

    factors: int
    learning_rate: float
    regularisation: float


class NeighboursConfig(NamedTuple):
    """How items are compared, and how many neighbours of each are kept."""

    by: Measure
    neighbours: int


BPR_GRID = tuple(BprConfig(*values) for values in product((64, 128), (0.01, 0.05), (0.001, 0.01)))
MEASURES: tuple[Measure, ...] = ("cosine", "tfidf", "bm25")
NEIGHBOURS_GRID = tuple(NeighboursConfig(*values) for values in product(MEASURES, (20, 100, 500)))


class FittedBpr(NamedTuple):
    """Factors of items and of the users that were trained on, float32 [n, factors + 1]: the last is an item's bias."""

    items: Vectors
    users: Vectors


class FittedNeighbours(NamedTuple):
    """What is taken together."""

    scores: Callable[[CSR], Scores]  # histories to float32 [n, n_items]; 0: nothing of the history goes with it
    megabytes: float


def fit_bpr(sequences: CSR, n_items: int, config: BprConfig, *, seed: int) -> FittedBpr:
    """Bayesian personalised ranking (Rendle et al., UAI 2009), 100 rounds as the library has it.

    One thread, so that the same seed gives the same factors. Raises MissingDependency without `implicit`.
    """
    with quiet_blas():
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(
            factors=config.factors, learning_rate=config.learning_rate, regularization=config.regularisation,
            random_state=seed, num_threads=1,
        )  # fmt: skip
        model.fit(counted(sequences, n_items), show_progress=False)
    return FittedBpr(model.item_factors, model.user_factors)


def fit_neighbours(sequences: CSR, n_items: int, config: NeighboursConfig) -> FittedNeighbours:
    """Items by who took them, as the library compares them. Raises MissingDependency without `implicit`."""
    with quiet_blas(), warnings.catch_warnings():
        from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
        from implicit.utils import ParameterWarning

        warnings.simplefilter("ignore", ParameterWarning)  # of what the library hands to itself
        kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
        model = kinds[config.by](K=config.neighbours)
        model.fit(counted(sequences, n_items), show_progress=False)
    similar = model.similarity
    held = similar.data.nbytes + similar.indices.nbytes + similar.indptr.nbytes

    def scores(histories: CSR) -> Scores:
        found: Scores = np.asarray((counted(histories, n_items) @ similar).todense(), np.float32)
        return found

    return FittedNeighbours(scores, held / 1e6)
