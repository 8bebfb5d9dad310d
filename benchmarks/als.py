"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from retrieval.errors import MissingDependency
from retrieval.progress import ProgressMeter
from retrieval.topk import CSR, Vectors

FACTORS = (64, 256)
REGULARISATION = (0.01, 0.1)
ALPHA = (1.0, 10.0)  # how much more an event counts than its absence


class AlsConfig(NamedTuple):
    """Settings of a factorisation."""

    factors: int
    regularisation: float
    alpha: float


class FittedAls(NamedTuple):
    """Item factors, and user factors of any histories in them."""

    config: AlsConfig
    items: Vectors  # [n_items, factors]
    users: Callable[[CSR], Vectors]  # histories to float32 [n, factors]; zero for an empty one


GRID = tuple(AlsConfig(*values) for values in product(FACTORS, REGULARISATION, ALPHA))


def best_als(
    sequences: CSR,
    n_items: int,
    validate: Callable[[FittedAls], float],
    *,
    seed: int,
    grid: tuple[AlsConfig, ...] = GRID,
) -> FittedAls:
    """The factorisation of users' items, counted as often as they occur, that `validate` finds best on the grid.

    Raises MissingDependency without the package `implicit`.
    """
    meter, best, highest = ProgressMeter(len(grid), "als", unit="fits"), None, -np.inf
    for config in grid:
        fitted = fit_als(sequences, n_items, config, seed=seed)
        found = validate(fitted)
        meter.advance(1, valid=found)
        if best is None or found > highest:
            best, highest = fitted, found
    meter.close()
    assert best is not None
    return best


def fit_als(sequences: CSR, n_items: int, config: AlsConfig, *, seed: int) -> FittedAls:
    """One factorisation by `implicit`, 15 rounds, the same for the same seed."""
    from scipy.sparse import csr_matrix  # implicit takes no csr_array

    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependency(
            f"ALS needs the package implicit ({error}); run: pip install 'shortlist[peers]'"
        ) from error

    def counted(lists: CSR) -> csr_matrix:
        ones = np.ones(len(lists.rows), np.float32)
        table = csr_matrix((ones, lists.rows.astype(np.int32), lists.indptr), shape=(lists.n_lists, n_items))
        table.sum_duplicates()
        return table

    def users(histories: CSR) -> Vectors:
        with threadpool_limits(1, "blas"):
            factors: Vectors = model.recalculate_user(np.arange(histories.n_lists), counted(histories))
        return factors

    with threadpool_limits(1, "blas"):  # implicit has threads of its own, and says so
        model = AlternatingLeastSquares(
            factors=config.factors, regularization=config.regularisation, alpha=config.alpha, random_state=seed
        )
        model.fit(counted(sequences), show_progress=False)
    return FittedAls(config, model.item_factors, users)
