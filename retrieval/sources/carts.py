"""Candidate sources that read a cart which is to be completed: what else such baskets held, and what the shop says
goes with its items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrieval.sources.cooccurrence import incidence
from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import FitCase, ReleaseParts, SourceSpec, register_source
from retrieval.topk import CSR

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SCALE = 1_000.0  # brings what two items share of their baskets to a range over which a logarithm bends


@dataclass(frozen=True)
class CartNeighbours:
    """log(1 + scale * the summed relation to the items of the cart).

    `related` is a sparse float32 [n_items, n_items] from items of carts (rows) to what completes them (columns). Items
    with higher rows, which were added after it was computed, have none.
    """

    related: csr_array
    scale: float = 1.0

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        summed = _summed(requests.cart, self.related)
        return SparseScores(_lists(summed), np.log1p(self.scale * summed.data).astype(np.float32))


def related_rows(lists: CSR, related: csr_array) -> CSR:
    """The rows to which any row of a list is related, ascending, of each list."""
    return _lists(_summed(lists, related))


def _summed(lists: CSR, related: csr_array) -> csr_array:
    """The summed relations of the rows of each list, sparse float32 [n_lists, n_items]."""
    n_items = related.shape[0]
    summed = incidence(lists.where(lists.rows < n_items), n_items) @ related
    summed.sort_indices()
    return summed


def _lists(matrix: csr_array) -> CSR:
    return CSR(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64))


def _completes(case: FitCase) -> bool:
    return case.order == "complete_cart"


def _declared(name: str, similarity: str, about: str, scale: float) -> SourceSpec:
    def make(parts: ReleaseParts) -> CartNeighbours:
        read = parts.similarity(similarity)
        assert read is not None, "made only where it is available"
        return CartNeighbours(read(), scale)

    return SourceSpec(
        name=name,
        about=about,
        make=make,
        available=lambda parts: parts.similarity(similarity) is not None,
        counts_for=_completes,
    )


register_source(_declared("same_basket", "baskets", "what else was in baskets with the items of the cart", SCALE))
register_source(_declared("complements", "completes", "what the shop says goes with the items of the cart", 1.0))
