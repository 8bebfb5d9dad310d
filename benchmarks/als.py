"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from benchmarks.implicit_library import counted, quiet_blas
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

    def users(histories: CSR) -> Vectors:
        with quiet_blas():
            factors: Vectors = model.recalculate_user(np.arange(histories.n_lists), counted(histories, n_items))
        return factors

    with quiet_blas():
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=config.factors, regularization=config.regularisation, alpha=config.alpha, random_state=seed
        )
        model.fit(counted(sequences, n_items), show_progress=False)
    return FittedAls(config, model.item_factors, users)
