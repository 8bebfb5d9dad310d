"""What all peers made with the library `implicit` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import MissingDependency
from retrieval.topk import CSR

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

K1, B = 100.0, 0.8  # of BM25, as the tutorial has them


def counted(lists: CSR, n_items: int) -> csr_matrix:
    """How often each list holds each item, as the library takes it."""
    from scipy.sparse import csr_matrix  # implicit takes no csr_array

    ones = np.ones(len(lists.rows), np.float32)
    table = csr_matrix((ones, lists.rows.astype(np.int32), lists.indptr), shape=(lists.n_lists, n_items))
    table.sum_duplicates()
    return table


def bm25_weighted(table: csr_matrix, totals: NDArray[np.floating]) -> csr_matrix:
    """Counts weighted as the library's tutorial weights them, by its `bm25_weight(K1=100, B=.8)` of items by users.

    `totals`, float [n_items], are the counts of each item in training: so that new histories are weighted like old.
    """
    norm = 1.0 - B + B * totals / totals.mean()
    rare = np.log(table.shape[1]) - np.log1p(np.diff(table.indptr))
    weighted = table.copy()
    users = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    weighted.data = (table.data * (K1 + 1) / (K1 * norm[table.indices] + table.data) * rare[users]).astype(np.float32)
    return weighted


@contextmanager
def quiet_blas() -> Iterator[None]:
    """BLAS on one thread, as the library with its own threads asks for; an import of it that fails inside raises
    MissingDependency with the line that installs it."""
    try:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):
            yield
    except ImportError as error:
        raise MissingDependency(
            f"this peer needs the package implicit ({error}); run: pip install 'shortlist[peers]'"
        ) from error
