"""Lexical candidate source: BM25 of the query over the items' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.sources.protocols import CandidateSource, RequestBatch, SparseScores
from retrieval.sources.registry import ReleaseParts, SourceSpec, register_source
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Scores

LONGEST_QUERY = 64  # words of a query that are read: a longer text would outweigh every other source


@dataclass(frozen=True)
class Lexical:
    """A BM25 index: the items of a word and their scores are `indptr[code]:indptr[code + 1]` of `rows` and `scores`.

    `codes` maps words and their stems to codes; words of one stem share a code. `analyzer` reads queries as it read the
    items. The arrays are taken from a `bm25s` index, and reading them does not need that library.
    """

    codes: Mapping[str, int]
    indptr: NDArray[np.int64]  # [n_codes + 1]
    rows: NDArray[np.int32]  # [indptr[-1]] item rows
    scores: Scores  # [indptr[-1]]
    analyzer: Analyzer

    @classmethod
    def of(cls, item_texts: Sequence[str], analyzer: Analyzer) -> Lexical:
        """Indexes the items' texts, in row order, with the defaults of `bm25s` (Lucene's variant of BM25)."""
        import bm25s

        index, distinct = bm25s.BM25(), set[str]()
        stems = []
        for text in item_texts:
            found = analyzer.indexed_words(text)
            distinct.update(found)
            # every item gets the empty word, because bm25s cannot index a catalogue without any words
            stems.append([*map(analyzer.stem, found), ""])
        index.index(stems, show_progress=False)
        scores, codes = index.scores, dict(index.vocab_dict)
        codes |= {word: codes[analyzer.stem(word)] for word in sorted(distinct)}
        return cls(codes, scores["indptr"].astype(np.int64), scores["indices"], scores["data"], analyzer)

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        found = [self._query(text) for text in requests.queries]
        sizes = [len(rows) for rows, _ in found]
        indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        rows = np.concatenate([rows for rows, _ in found] or [np.empty(0, np.int64)])
        scores = np.concatenate([scores for _, scores in found] or [np.empty(0, np.float32)])
        return SparseScores(CSR(indptr, rows), scores)

    def items_with(self, word: str) -> int:
        """How many items have a word or another of its stem."""
        code = self._code(word)
        return 0 if code is None else int(self.indptr[code + 1] - self.indptr[code])

    def _query(self, text: str) -> tuple[NDArray[np.int64], Scores]:
        """The rows that share a word with the query, ascending, and their scores."""
        read = self.analyzer.words(text)[:LONGEST_QUERY]
        codes = [code for word in read if (code := self._code(word)) is not None]
        parts = [slice(self.indptr[code], self.indptr[code + 1]) for code in codes]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = np.concatenate([self.rows[part] for part in parts])
        scores = np.concatenate([self.scores[part] for part in parts])
        distinct, which = np.unique(rows, return_inverse=True)
        return distinct.astype(np.int64), np.bincount(which, scores).astype(np.float32)

    def _code(self, word: str) -> int | None:
        return self.codes.get(word, self.codes.get(self.analyzer.stem(word)))


def _words(parts: ReleaseParts) -> CandidateSource:
    read = parts.lexical
    assert read is not None, "made only where it is available"
    return read()


register_source(
    SourceSpec(
        name="words",
        about="BM25 of the query's words over the items' texts",
        make=_words,
        available=lambda parts: parts.lexical is not None,
        counts_for=lambda case: case.order == "search",
    )
)
