"""Candidate sources beside the towers: what goes with a history or comes next, what was taken or looked at, what sells,
and words.

Each gives every item a score that is 0 where it knows nothing and grows slowly, so that a weighted sum of sources
(`retrieval.fusion`) is moved by none alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.text.words import stem, words
from retrieval.topk import CSR, Hits, Mask, Scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DAY = 86_400_000_000  # microseconds
NEWEST = 100  # events of a history whose items are asked what goes with them
LONGEST_QUERY = 64  # words that are read of a query: more are a document, and would count for more than all else


class Asked(NamedTuple):
    """What sources may know of a block of requests."""

    history: CSR  # item rows of each shopper's earlier events, oldest first, as often as they occurred
    taken: CSR  # of those, what was taken and not only looked at
    left: CSR  # of those, each once, what was looked at and not taken since, the one looked at last at the end
    day: NDArray[np.int64]  # [n] of the request, in whole days since 1970, UTC
    texts: Sequence[str]  # [n] of queries; empty: none was asked

    def select(self, part: NDArray[np.int64]) -> Asked:
        """Some of the requests, by position."""
        texts = [self.texts[i] for i in part.tolist()]
        return Asked(self.history.select(part), self.taken.select(part), self.left.select(part), self.day[part], texts)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Asked:
        """Queries of nobody known.

        >>> Asked.of_texts(["red mug"]).history.n_lists
        1
        """
        nothing = CSR(np.zeros(len(texts) + 1, np.int64), np.empty(0, np.int64))
        return cls(nothing, nothing, nothing, np.zeros(len(texts), np.int64), texts)


class Scored(Protocol):
    """The scores that one source gives to every item, for each request of a block."""

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """The k best rows of each request whose score is above 0, without those that `exclude` lists for it and those
        that `allowed`, bool [n_items], leaves out of all."""
        ...

    def at(self, pairs: CSR) -> Scores:
        """The score of each listed row, float32 [len(pairs.rows)]: list i belongs to request i."""
        ...


class CandidateSource(Protocol):
    """Something that proposes items, or only scores what others propose. Safe to read from many threads."""

    def read(self, asked: Asked) -> Scored:
        """Scores for a block of requests."""
        ...


@dataclass(frozen=True)
class SparseScores:
    """Few scores above 0 for each request: `lists` holds their rows, ascending and each once, `values` the scores."""

    lists: CSR
    values: Scores

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """See Scored."""
        values = self.values
        if exclude is not None and len(self.lists.rows):
            values = np.where(_listed(self.lists, exclude), -np.inf, values)
        if allowed is not None:
            values = np.where(allowed[self.lists.rows], values, -np.inf)
        return best_of_lists(self.lists, values, k)

    def at(self, pairs: CSR) -> Scores:
        """See Scored."""
        if not len(self.lists.rows):
            return np.zeros(len(pairs.rows), np.float32)
        span = int(max(self.lists.rows.max(), pairs.rows.max(initial=0))) + 1
        keys, wanted = self.lists.owners * span + self.lists.rows, pairs.owners * span + pairs.rows
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, self.values[at], np.float32(0))


@dataclass(frozen=True)
class CoOccurrence:
    """What shoppers of the same items took: log(1 + the sum over the distinct items of the newest `reads` events).

    `similar` is a sparse float32 [n_items, n_items], see `retrieval.sources.cooccurrence`; of `right_after`, of which
    one event is read, it is log(1 + how often). Of items with higher rows, which came later, nothing is known.
    """

    similar: csr_array
    reads: int = NEWEST

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        events, n_items = newest(asked.history, self.reads), self.similar.shape[0]
        summed = incidence(events.where(events.rows < n_items), n_items) @ self.similar
        summed.sort_indices()
        lists = CSR(summed.indptr.astype(np.int64), summed.indices.astype(np.int64))
        return SparseScores(lists, np.log1p(summed.data).astype(np.float32))


@dataclass(frozen=True)
class OwnFrequency:
    """What the shopper took before: log(1 + how often)."""

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        taken = asked.taken
        span = int(taken.rows.max(initial=0)) + 1
        keys, counts = np.unique(taken.owners * span + taken.rows, return_counts=True)
        indptr = np.searchsorted(keys, np.arange(taken.n_lists + 1) * span)
        return SparseScores(CSR(indptr, keys % span), np.log1p(counts).astype(np.float32))


@dataclass(frozen=True)
class TakenBefore:
    """What the shopper took before, however often: 1."""

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        counted = OwnFrequency().read(asked)
        return replace(counted, values=np.ones_like(counted.values))


@dataclass(frozen=True)
class LookedAt:
    """What the shopper looked at, or put in the cart, and did not take since: 1 for the last one, 1/2 for the one
    before, and so on."""

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        left = asked.left
        order = np.lexsort((left.rows, left.owners))
        values = 1.0 / (left.indptr[1:][left.owners] - np.arange(len(left.rows)))
        return SparseScores(CSR(left.indptr, left.rows[order]), values[order].astype(np.float32))


@dataclass(frozen=True)
class Lexical:
    """BM25 of the query's words: a word's items and their scores are `indptr[code]:indptr[code + 1]` of both arrays.

    `codes` names the words, those of one stem by one code, and the stems; the arrays are those of a `bm25s` index,
    which is not needed to read them.
    """

    codes: Mapping[str, int]
    indptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: Scores

    @classmethod
    def of(cls, item_texts: Sequence[str]) -> Lexical:
        """BM25 in Lucene's variant, as `bm25s` has it by default."""
        import bm25s

        index, distinct = bm25s.BM25(), set[str]()
        stems = []
        for text in item_texts:
            found = words(text)
            distinct.update(found)
            # the empty word stands in every item, so that a catalogue without any words can be indexed too
            stems.append([*map(stem, found), ""])
        index.index(stems, show_progress=False)
        scores, codes = index.scores, dict(index.vocab_dict)
        codes |= {word: codes[stem(word)] for word in sorted(distinct)}
        return cls(codes, scores["indptr"].astype(np.int64), scores["indices"], scores["data"])

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        found = [self._query(text) for text in asked.texts]
        sizes = [len(rows) for rows, _ in found]
        indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        rows = np.concatenate([rows for rows, _ in found] or [np.empty(0, np.int64)])
        scores = np.concatenate([scores for _, scores in found] or [np.empty(0, np.float32)])
        return SparseScores(CSR(indptr, rows), scores)

    def _query(self, text: str) -> tuple[NDArray[np.int64], Scores]:
        """The rows that share a word with the query, ascending, and their scores."""
        asked = words(text)[:LONGEST_QUERY]
        codes = [code for word in asked if (code := self.codes.get(word, self.codes.get(stem(word)))) is not None]
        parts = [slice(self.indptr[code], self.indptr[code + 1]) for code in codes]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = np.concatenate([self.rows[part] for part in parts])
        scores = np.concatenate([self.scores[part] for part in parts])
        distinct, which = np.unique(rows, return_inverse=True)
        return distinct.astype(np.int64), np.bincount(which, scores).astype(np.float32)


@dataclass(frozen=True)
class ExactMatch:
    """The item whose id or code the query is: 1.

    Each of `lookups` gives the row of every text, -1 for one that is none of its codes.
    """

    lookups: Sequence[Callable[[Sequence[str]], NDArray[np.int64]]]

    def read(self, asked: Asked) -> SparseScores:
        """See CandidateSource."""
        texts = [text.strip() for text in asked.texts]
        rows = np.stack([lookup(texts) for lookup in self.lookups], axis=1)
        lists = CSR.from_lists([np.unique(found[found >= 0]) for found in rows])
        return SparseScores(lists, np.ones(len(lists.rows), np.float32))


def incidence(lists: CSR, n_items: int) -> csr_array:
    """1 where a list holds an item, float32 [n_lists, n_items]."""
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(lists.rows), np.float32), lists.rows, lists.indptr), (lists.n_lists, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def newest(lists: CSR, n: int) -> CSR:
    """The last n rows of each list.

    >>> newest(CSR.from_lists([[3, 1, 2], [5]]), 2).rows.tolist()
    [1, 2, 5]
    """
    owners = lists.owners
    kept = lists.indptr[1:][owners] - np.arange(len(owners)) <= n
    return CSR(np.concatenate(([0], np.cumsum(kept)))[lists.indptr], lists.rows[kept])


def best_of_lists(lists: CSR, scores: Scores, k: int, *, then: Scores | None = None) -> Hits:
    """The k best rows of each list, best first, ties by `then` and by row; those of score -inf are left out."""
    ties = (lists.rows,) if then is None else (lists.rows, -then)
    order = np.lexsort((*ties, -scores, lists.owners))
    owners = lists.owners[order]
    rank = np.arange(len(order)) - lists.indptr[owners]
    kept = (rank < k) & (scores[order] > -np.inf)
    hits = Hits(np.full((lists.n_lists, k), -1, np.int64), np.full((lists.n_lists, k), -np.inf, np.float32))
    hits.rows[owners[kept], rank[kept]] = lists.rows[order[kept]]
    hits.scores[owners[kept], rank[kept]] = scores[order[kept]]
    return hits


def _listed(lists: CSR, other: CSR) -> Mask:
    """Whether each row of `lists` stands in the other's list of the same request."""
    span = int(max(lists.rows.max(initial=0), other.rows.max(initial=0))) + 1
    return np.isin(lists.owners * span + lists.rows, other.owners * span + other.rows)
