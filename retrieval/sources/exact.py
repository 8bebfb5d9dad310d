"""Exact-match candidate source: queries that are an item's id or product code, or hold one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import CodeLookups, Lookup, SourceSpec, register_source
from retrieval.text.codes import INSIDE, typed_codes
from retrieval.topk import CSR, Rows, Scores

EXACT = "exact"  # name of the source whose items are placed before all others


@dataclass(frozen=True)
class ExactMatch:
    """Items whose id or code is in the query.

    An item scores more if its code is the whole query, and if it is spelt as typed: see
    `retrieval.text.codes.TypedCode`. Codes inside of a query count where the whole of it names no item."""

    lookups: CodeLookups

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        codes = [typed_codes(text) for text in requests.queries]
        line = np.repeat(np.arange(len(codes)), list(map(len, codes)))
        flat = list(chain.from_iterable(codes))
        scores = np.array([code.score for code in flat], np.float32)
        by_text = _found(self.lookups.texts, [code.text for code in flat])
        keyed = np.array([i for i, code in enumerate(flat) if code.key], np.int64)
        by_key = _found((*self.lookups.keys, *self.lookups.texts), [flat[i].key for i in keyed.tolist()])
        found = np.concatenate((by_text.owners, keyed[by_key.owners]))
        return _best_of_each(
            line[found],
            np.concatenate((by_text.rows, by_key.rows)),
            np.concatenate((scores[by_text.owners], scores[keyed[by_key.owners]] - 1)),
            len(codes),
        )


def _found(lookups: Sequence[Lookup], texts: list[str]) -> CSR:
    return CSR.concatenate([lookup(texts) for lookup in lookups])


def _best_of_each(line: NDArray[np.int64], row: Rows, score: Scores, n: int) -> SparseScores:
    """The highest score of each item of n requests, without those inside of a query that names one as a whole."""
    whole = np.zeros(n, bool)
    whole[line[score > INSIDE]] = True
    kept = ~whole[line] | (score > INSIDE)
    line, row, score = line[kept], row[kept], score[kept]
    order = np.lexsort((-score, row, line))
    line, row, score = line[order], row[order], score[order]
    first = np.ones(len(row), bool)
    first[1:] = (line[1:] != line[:-1]) | (row[1:] != row[:-1])
    return SparseScores(CSR.grouped(line[first], row[first], n), score[first])


register_source(
    SourceSpec(
        name=EXACT,
        about="the item whose id or code the query is or holds; placed before all others",
        make=lambda parts: ExactMatch(parts.lookups()),
        counts_for=lambda case: False,  # its items are placed first, whatever the weights
        follows_updates=True,
    )
)
