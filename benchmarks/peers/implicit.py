"""ALS, BPR and item neighbours of the library `implicit`, used as its documentation shows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import MissingDependency
from retrieval.topk import CSR, Scores, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Weighting: TypeAlias = Literal["counts", "bm25"]
Measure: TypeAlias = Literal["cosine", "tfidf", "bm25"]

K1, B = 100.0, 0.8  # of BM25, as in the library's tutorial
FACTORS = (64, 256)
REGULARISATION = (0.01, 0.1)
ALPHA = (1.0, 10.0)  # how much more an event counts than its absence


class AlsConfig(NamedTuple):
    """Settings of ALS."""

    factors: int
    regularisation: float
    alpha: float
    weighting: Weighting = "counts"


class FittedAls(NamedTuple):
    """Item factors, and the function that folds histories into user factors."""

    config: AlsConfig
    items: Vectors  # [n_items, factors]
    users: Callable[[CSR], Vectors]  # histories to float32 [n, factors]; zero for an empty one


TUTORIAL_GRID = tuple(AlsConfig(factors, 0.05, 2.0, "bm25") for factors in FACTORS)  # as in the library's tutorial
ALS_GRID = (*(AlsConfig(*values) for values in product(FACTORS, REGULARISATION, ALPHA)), *TUTORIAL_GRID)


def fit_als(sequences: CSR, n_items: int, config: AlsConfig, *, seed: int) -> FittedAls:
    """Alternating least squares (Hu, Koren and Volinsky, ICDM 2008), 15 iterations, deterministic for a seed.

    Raises MissingDependency without `implicit`.
    """
    table = count_matrix(sequences, n_items)
    totals = np.asarray(table.sum(axis=0)).ravel()

    def weighted(counts: csr_matrix) -> csr_matrix:
        return bm25_weighted(counts, totals) if config.weighting == "bm25" else counts

    def users(histories: CSR) -> Vectors:
        with quiet_blas():
            weights = weighted(count_matrix(histories, n_items))
            factors: Vectors = model.recalculate_user(np.arange(histories.n_lists), weights)
        return factors

    with quiet_blas():
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=config.factors, regularization=config.regularisation, alpha=config.alpha, random_state=seed
        )
        model.fit(weighted(table), show_progress=False)
    return FittedAls(config, model.item_factors, users)


class BprConfig(NamedTuple):
    """Settings of BPR."""

    factors: int
    learning_rate: float
    regularisation: float


class NeighboursConfig(NamedTuple):
    """The similarity of items, and how many neighbours of each are kept."""

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
    """Scores by the similarity of items."""

    scores: Callable[[CSR], Scores]  # histories to float32 [n, n_items]; 0: no neighbour of the history
    megabytes: float


def fit_bpr(sequences: CSR, n_items: int, config: BprConfig, *, seed: int) -> FittedBpr:
    """Bayesian personalised ranking (Rendle et al., UAI 2009), the library's default of 100 iterations.

    One thread, so that it is deterministic for a seed. Raises MissingDependency without `implicit`.
    """
    with quiet_blas():
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(
            factors=config.factors, learning_rate=config.learning_rate, regularization=config.regularisation,
            random_state=seed, num_threads=1,
        )  # fmt: skip
        model.fit(count_matrix(sequences, n_items), show_progress=False)
    return FittedBpr(model.item_factors, model.user_factors)


def fit_neighbours(sequences: CSR, n_items: int, config: NeighboursConfig) -> FittedNeighbours:
    """Item neighbours by the users that they share. Raises MissingDependency without `implicit`."""
    with quiet_blas(), warnings.catch_warnings():
        from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
        from implicit.utils import ParameterWarning

        warnings.simplefilter("ignore", ParameterWarning)  # about arguments that the library passes to itself
        kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
        model = kinds[config.by](K=config.neighbours)
        model.fit(count_matrix(sequences, n_items), show_progress=False)
    similar = model.similarity
    held = similar.data.nbytes + similar.indices.nbytes + similar.indptr.nbytes

    def scores(histories: CSR) -> Scores:
        found: Scores = np.asarray((count_matrix(histories, n_items) @ similar).todense(), np.float32)
        return found

    return FittedNeighbours(scores, held / 1e6)


def count_matrix(lists: CSR, n_items: int) -> csr_matrix:
    """How often each list contains each item, as the library's sparse matrix [n_lists, n_items]."""
    from scipy.sparse import csr_matrix  # implicit does not accept csr_array

    ones = np.ones(len(lists.rows), np.float32)
    table = csr_matrix((ones, lists.rows.astype(np.int32), lists.indptr), shape=(lists.n_lists, n_items))
    table.sum_duplicates()
    return table


def bm25_weighted(table: csr_matrix, totals: NDArray[np.floating]) -> csr_matrix:
    """Counts weighted as in the library's tutorial, by `bm25_weight(K1=100, B=.8)` of items by users.

    `totals`, float [n_items], are the items' counts in training, so that new histories are weighted in the same way.
    """
    norm = 1.0 - B + B * totals / totals.mean()
    rare = np.log(table.shape[1]) - np.log1p(np.diff(table.indptr))
    weighted = table.copy()
    users = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    weighted.data = (table.data * (K1 + 1) / (K1 * norm[table.indices] + table.data) * rare[users]).astype(np.float32)
    return weighted


@contextmanager
def quiet_blas() -> Iterator[None]:
    """Limits BLAS to one thread, as `implicit` recommends since it has threads of its own. Raises MissingDependency
    where an import inside fails."""
    try:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):
            yield
    except ImportError as error:
        raise MissingDependency(
            f"this peer needs the package implicit ({error}); run: pip install 'shortlist[peers]'"
        ) from error
