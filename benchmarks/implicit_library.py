"""What all peers made with the library `implicit` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from retrieval.errors import MissingDependency
from retrieval.topk import CSR

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def counted(lists: CSR, n_items: int) -> csr_matrix:
    """How often each list holds each item, as the library takes it."""
    from scipy.sparse import csr_matrix  # implicit takes no csr_array

    ones = np.ones(len(lists.rows), np.float32)
    table = csr_matrix((ones, lists.rows.astype(np.int32), lists.indptr), shape=(lists.n_lists, n_items))
    table.sum_duplicates()
    return table


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
