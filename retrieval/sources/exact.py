"""Exact-match candidate source: queries that are an item's id or product code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import SourceSpec, register_source
from retrieval.topk import CSR

EXACT = "exact"  # name of the source whose items are placed before all others


@dataclass(frozen=True)
class ExactMatch:
    """Items whose id or code equals the query, 1 each.

    Each of `lookups` maps texts to item rows, int64 [n], -1 where a text is none of its codes.
    """

    lookups: Sequence[Callable[[Sequence[str]], NDArray[np.int64]]]

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        texts = [text.strip() for text in requests.queries]
        rows = np.stack([lookup(texts) for lookup in self.lookups], axis=1)
        lists = CSR.from_lists([np.unique(found[found >= 0]) for found in rows])
        return SparseScores(lists, np.ones(len(lists.rows), np.float32))


register_source(
    SourceSpec(
        name=EXACT,
        about="the item whose id or code the query is; placed before all others",
        make=lambda parts: ExactMatch(parts.lookups()),
        counts_for=lambda case: False,  # its items are placed first, whatever the weights
        follows_updates=True,
    )
)
