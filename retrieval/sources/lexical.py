"""Lexical candidate source: BM25 of the query over the items' texts."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from retrieval.sources.protocols import CandidateSource, RequestBatch, SparseScores
from retrieval.sources.registry import ReleaseParts, SourceSpec, register_source
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Scores

LONGEST_QUERY = 64  # words of a query that are read: a longer text would outweigh every other source
SATURATION, LENGTH_SHARE = 1.2, 0.75  # k1 and b of BM25, Lucene's
EXACT = 0.1  # weight of a word written as the query has it, beside that of its stem
SIGN, MOST_OF_SIGN = 0.5, 50_000  # weight of a sign beside pairs of signs; items of a sign that is too common to count


@dataclass(frozen=True)
class Lexical:
    """A BM25 index: the items of a word and their scores are `indptr[code]:indptr[code + 1]` of `rows` and `scores`.

    `codes` maps words and their stems to codes; words of one stem share a code. Where the items spell a word in several
    ways, with and without accents, `exact` maps each of them to a further code, of the items that have just that.
    `analyzer` reads queries as it read the items.
    """

    codes: Mapping[str, int]
    indptr: NDArray[np.int64]  # [n_codes + 1]
    rows: NDArray[np.int32]  # [indptr[-1]] item rows, ascending within a code
    scores: Scores  # [indptr[-1]]
    analyzer: Analyzer
    exact: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, item_texts: Sequence[str], analyzer: Analyzer) -> Lexical:
        """Indexes the items' texts, in row order, by Lucene's variant of BM25.

        Single signs of scripts without spaces are indexed, too, and do not count as length.
        """
        known: dict[str, int] = defaultdict(lambda: len(known))
        found, sizes, lengths = array("i"), array("i"), array("i")
        for text in item_texts:
            words, signs = analyzer.words(text), analyzer.signs(text)
            found.extend(known[word] for word in chain(words, signs))
            sizes.append(len(words) + len(signs))
            lengths.append(len(words) + 1)  # one more evens out the shortest
        codes, exact = _coded(list(known), analyzer)
        words_at, rows = np.asarray(found), np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        stems, spelt = (np.array([of.get(word, -1) for word in known], np.int32)[words_at] for of in (codes, exact))
        stems, rows = np.concatenate((stems, spelt[spelt >= 0])), np.concatenate((rows, rows[spelt >= 0]))
        n_codes = len(set(codes.values())) + len(exact)
        return cls(codes, *_bm25(stems, rows, n_codes, np.array(lengths, np.float32)), analyzer, exact)

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
        return 0 if code is None else self._n_items(code)

    def _query(self, text: str) -> tuple[NDArray[np.int64], Scores]:
        """The rows that share a word with the query, ascending, and their scores."""
        weighted = list(self._weighted(text))
        if not weighted:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parts = [(slice(self.indptr[code], self.indptr[code + 1]), weight) for code, weight in weighted]
        rows = np.concatenate([self.rows[part] for part, _ in parts])
        scores = np.concatenate([self.scores[part] * weight for part, weight in parts])
        distinct, which = np.unique(rows, return_inverse=True)
        return distinct.astype(np.int64), np.bincount(which, scores).astype(np.float32)

    def _weighted(self, text: str) -> Iterator[tuple[int, np.float32]]:
        """The codes of a query that items have, and what each counts."""
        for word in self.analyzer.words(text)[:LONGEST_QUERY]:
            if (code := self._code(word)) is not None:
                yield code, np.float32(1)
            if (code := self.exact.get(word)) is not None:
                yield code, np.float32(EXACT)
        for sign in self.analyzer.signs(text)[:LONGEST_QUERY]:
            if (code := self.codes.get(sign)) is not None and self._n_items(code) <= MOST_OF_SIGN:
                yield code, np.float32(SIGN)

    def _code(self, word: str) -> int | None:
        return self.codes.get(word, self.codes.get(self.analyzer.stem(word)))

    def _n_items(self, code: int) -> int:
        return int(self.indptr[code + 1] - self.indptr[code])


def _coded(words: Sequence[str], analyzer: Analyzer) -> tuple[dict[str, int], dict[str, int]]:
    """The codes of words and of their stems, and those of words that are spelt in several ways, which come after them.

    A stem that is a word with a stem of its own shares the code of that.
    """
    stems = {word: analyzer.stem(word) for word in words}
    codes: dict[str, int] = {}
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    spellings: dict[str, list[str]] = defaultdict(list)
    for word, stem in stems.items():
        codes[word] = codes[stem] = numbers[_last_stem(word, stems)]
        spellings[analyzer.folded(word)].append(word)
    several = [word for group in spellings.values() if len(group) > 1 for word in group]
    return codes, {word: len(numbers) + place for place, word in enumerate(several)}


def _last_stem(word: str, stems: Mapping[str, str]) -> str:
    """The stem of the stem and so on; of those that lead to each other, the first by letters."""
    seen: list[str] = []
    while word in stems and word not in seen:
        seen.append(word)
        word = stems[word]
    return min(seen[seen.index(word) :]) if word in seen else word


def _bm25(
    codes: NDArray[np.int32], rows: NDArray[np.int32], n_codes: int, lengths: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], Scores]:
    """`indptr`, `rows` and `scores` of `Lexical`, of occurrences of codes in rows and the number of words of each row,
    float32 [n_items]."""
    from scipy.sparse import coo_array

    ones, shape = np.ones(len(codes), np.float32), (n_codes, len(lengths))
    counts = coo_array((ones, (codes, rows)), shape).tocsr()  # adds up what occurs several times in a row
    counts.sort_indices()
    n_holding = np.diff(counts.indptr)
    idf = np.log1p((len(lengths) - n_holding + 0.5) / (n_holding + 0.5)).astype(np.float32)
    saturation = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths * len(lengths) / max(lengths.sum(), 1))
    scores = np.repeat(idf, n_holding) * (counts.data / (counts.data + saturation[counts.indices]))
    return counts.indptr.astype(np.int64), counts.indices.astype(np.int32), scores.astype(np.float32)


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
