"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from benchmarks.peers.implicit import bm25_weighted, counted, quiet_blas
from retrieval.topk import CSR, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Weighting: TypeAlias = Literal["counts", "bm25"]

FACTORS = (64, 256)
REGULARISATION = (0.01, 0.1)
ALPHA = (1.0, 10.0)  # how much more an event counts than its absence


class AlsConfig(NamedTuple):
    """Settings of a factorisation."""

    factors: int
    regularisation: float
    alpha: float
    weighting: Weighting = "counts"


class FittedAls(NamedTuple):
    """Item factors, and user factors of any histories in them."""

    config: AlsConfig
    items: Vectors  # [n_items, factors]
    users: Callable[[CSR], Vectors]  # histories to float32 [n, factors]; zero for an empty one


TUTORIAL = tuple(AlsConfig(factors, 0.05, 2.0, "bm25") for factors in FACTORS)  # the library's, and more factors
GRID = (*(AlsConfig(*values) for values in product(FACTORS, REGULARISATION, ALPHA)), *TUTORIAL)


def fit_als(sequences: CSR, n_items: int, config: AlsConfig, *, seed: int) -> FittedAls:
    """One factorisation by `implicit`, 15 rounds, the same for the same seed."""
    table = counted(sequences, n_items)
    totals = np.asarray(table.sum(axis=0)).ravel()

    def weighted(counts: csr_matrix) -> csr_matrix:
        return bm25_weighted(counts, totals) if config.weighting == "bm25" else counts

    def users(histories: CSR) -> Vectors:
        with quiet_blas():
            told = weighted(counted(histories, n_items))
            factors: Vectors = model.recalculate_user(np.arange(histories.n_lists), told)
        return factors

    with quiet_blas():
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=config.factors, regularization=config.regularisation, alpha=config.alpha, random_state=seed
        )
        model.fit(weighted(table), show_progress=False)
    return FittedAls(config, model.item_factors, users)
