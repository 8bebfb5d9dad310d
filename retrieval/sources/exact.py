"""The candidate source of identifiers: a query that is an item's id or product code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.topk import CSR


@dataclass(frozen=True)
class ExactMatch:
    """The item whose id or code the query is: 1.

    Each of `lookups` gives the row of every text, -1 for one that is none of its codes.
    """

    lookups: Sequence[Callable[[Sequence[str]], NDArray[np.int64]]]

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        texts = [text.strip() for text in requests.queries]
        rows = np.stack([lookup(texts) for lookup in self.lookups], axis=1)
        lists = CSR.from_lists([np.unique(found[found >= 0]) for found in rows])
        return SparseScores(lists, np.ones(len(lists.rows), np.float32))
