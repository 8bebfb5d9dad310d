"""What a candidate source reads and what it returns: the block of requests, the protocols, and sparse scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Hits, Mask, Scores

PAD = np.uint64(0)
ROW_BITS = np.uint64(2**32 - 1)
SIGN = np.uint32(1 << 31)


class RequestBatch(NamedTuple):
    """What candidate sources may read of n requests."""

    history: CSR  # item rows of each shopper's earlier events, oldest first, repeats kept
    taken: CSR  # those of target events (purchases), oldest first, repeats kept
    browsed: CSR  # items seen or put in the cart but not taken since, each once, the most recent last
    carted: CSR  # items put in the cart and neither taken nor given back since, each once, the most recent last
    day: NDArray[np.int64]  # [n] day of the request, in whole days since 1970, UTC
    queries: Sequence[str]  # [n] query texts, "" where the request has none
    cart: CSR  # item rows of a cart that is to be completed

    def select(self, part: NDArray[np.int64]) -> RequestBatch:
        """The requests at the positions `part`, int64 [m]."""
        queries = [self.queries[i] for i in part.tolist()]
        history, taken, browsed, carted, cart = (
            own.select(part) for own in (self.history, self.taken, self.browsed, self.carted, self.cart)
        )
        return RequestBatch(history, taken, browsed, carted, self.day[part], queries, cart)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> RequestBatch:
        """Queries of unknown shoppers, without a history.

        >>> RequestBatch.of_texts(["red mug"]).history.n_lists
        1
        """
        empty = CSR.empty(len(texts))
        return cls(empty, empty, empty, empty, np.zeros(len(texts), np.int64), texts, empty)

    @classmethod
    def join(cls, parts: Sequence[RequestBatch]) -> RequestBatch:
        """The requests of several batches, one after another."""
        history, taken, browsed, carted, cart = (
            CSR.join([getattr(part, name) for part in parts])
            for name in ("history", "taken", "browsed", "carted", "cart")
        )
        queries = [text for part in parts for text in part.queries]
        return cls(history, taken, browsed, carted, np.concatenate([part.day for part in parts]), queries, cart)


class SourceScores(Protocol):
    """The scores of one source for every item, for each request of a batch. A score of 0 says that nothing is known."""

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """The k best rows of each request among those that score above 0, best first.

        `exclude` lists rows to leave out, one list per request; `allowed` bool [n_items] is a filter for all requests.
        """
        ...

    def at(self, pairs: CSR) -> Scores:
        """The scores of given (request, item) pairs, float32 [len(pairs.rows)]: list i belongs to request i."""
        ...


class CandidateSource(Protocol):
    """Scores items for requests. Reading it from several threads at once is safe."""

    def read(self, requests: RequestBatch) -> SourceScores:
        """The source's scores for a batch of requests."""
        ...


@dataclass(frozen=True)
class SparseScores:
    """The scores of the few items of each request that score above 0.

    `lists` holds their rows, ascending and distinct within a request; `values` float32 [len(lists.rows)] the scores.
    """

    lists: CSR
    values: Scores

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """See SourceScores."""
        values = self.values
        if exclude is not None and len(self.lists.rows):
            values = np.where(self.lists.listed_in(exclude), -np.inf, values)
        if allowed is not None:
            values = np.where(allowed[self.lists.rows], values, -np.inf)
        return best_of_lists(self.lists, values, k)

    def at(self, pairs: CSR) -> Scores:
        """See SourceScores."""
        if not len(self.lists.rows):
            return np.zeros(len(pairs.rows), np.float32)
        span = int(max(self.lists.rows.max(), pairs.rows.max(initial=0))) + 1
        keys, wanted = self.lists.owners * span + self.lists.rows, pairs.owners * span + pairs.rows
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, self.values[at], np.float32(0))


def best_of_lists(lists: CSR, scores: Scores, k: int, *, tie_breaker: Scores | None = None) -> Hits:
    """The k best rows of each list, best first; a score of -inf leaves a row out.

    `scores` float32 [len(lists.rows)]. Ties go to the higher `tie_breaker`, then to the lower row.
    """
    hits = Hits(np.full((lists.n_lists, k), -1, np.int64), np.full((lists.n_lists, k), -np.inf, np.float32))
    keys = _padded_keys(lists, scores)
    kept = min(k, keys.shape[1])
    if not kept:
        return hits
    if kept < keys.shape[1]:
        keys.partition(keys.shape[1] - kept, axis=1)
    best = np.sort(keys[:, keys.shape[1] - kept :], axis=1)[:, ::-1]
    found = best != PAD
    hits.rows[:, :kept] = np.where(found, ROW_BITS - (best & ROW_BITS), -1)
    hits.scores[:, :kept] = np.where(found, _floats((best >> 32).astype(np.uint32)), -np.inf)
    if tie_breaker is not None:
        tied = np.flatnonzero(_tied(keys, best))
        if len(tied):
            places = CSR(lists.indptr, np.arange(len(lists.rows))).select(tied)
            hits.put(tied, _broken(lists.select(tied), scores[places.rows], k, tie_breaker[places.rows]))
    return hits


def _padded_keys(lists: CSR, scores: Scores) -> NDArray[np.uint64]:
    """What sorts by the score, then from the highest row to the lowest, uint64 [n, longest list]; PAD where there is
    no row, or one that is left out."""
    sizes = np.diff(lists.indptr)
    keys = np.zeros((lists.n_lists, int(sizes.max(initial=0))), np.uint64)
    own = (_ordered(scores).astype(np.uint64) << 32) | (ROW_BITS - lists.rows.astype(np.uint64))
    keys[np.arange(keys.shape[1]) < sizes[:, None]] = np.where(scores > -np.inf, own, PAD)
    return keys


def _ordered(scores: Scores) -> NDArray[np.uint32]:
    """Whole numbers in the order of float32 numbers."""
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)  # one zero: -0 is 0
    return np.where(bits >> 31, ~bits, bits | SIGN)


def _floats(ordered: NDArray[np.uint32]) -> Scores:
    """The numbers that `_ordered` made whole."""
    return np.where(ordered >> 31, ordered ^ SIGN, ~ordered).view(np.float32)


def _tied(keys: NDArray[np.uint64], best: NDArray[np.uint64]) -> Mask:
    """Of which lines, bool [n], any of the best has the score of another."""
    score, last = best >> 32, best[:, -1:] >> 32
    among = ((score[:, 1:] == score[:, :-1]) & (best[:, 1:] != PAD)).any(axis=1)
    at_the_edge = (((keys >> 32) >= last).sum(axis=1) > best.shape[1]) & (last[:, 0] > 0)
    tied: Mask = among | at_the_edge
    return tied


def _broken(lists: CSR, scores: Scores, k: int, tie_breaker: Scores) -> Hits:
    """`best_of_lists` of lists with ties, in full."""
    order = np.lexsort((lists.rows, -tie_breaker, -scores, lists.owners))
    owners = lists.owners[order]
    rank = np.arange(len(order)) - lists.indptr[owners]
    kept = (rank < k) & (scores[order] > -np.inf)
    hits = Hits(np.full((lists.n_lists, k), -1, np.int64), np.full((lists.n_lists, k), -np.inf, np.float32))
    hits.rows[owners[kept], rank[kept]] = lists.rows[order[kept]]
    hits.scores[owners[kept], rank[kept]] = scores[order[kept]]
    return hits
