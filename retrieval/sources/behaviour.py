"""Candidate sources that read a shopper's own events: co-occurrence, repeat purchases, and recent views.

Each scores an item 0 where it knows nothing, and its scores grow slowly (at most logarithmically), so that no single
source dominates the weighted sum of `retrieval.sources.fusion`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data.event_kinds import Meaning, meaning
from retrieval.sources.cooccurrence import incidence
from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import FitCase, ReleaseParts, SourceSpec, register_source
from retrieval.topk import CSR

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NEWEST = 100  # events of a history whose items are looked up in the co-occurrences


@dataclass(frozen=True)
class CoOccurrence:
    """Item co-occurrence: log(1 + the summed similarity to the distinct items of the newest `reads` events).

    `similar` is a sparse float32 [n_items, n_items] of `cooccurrence`, or of `right_after` counts, with which one event
    is read. Items with higher rows, which were added after it was computed, have no similarities.
    """

    similar: csr_array
    reads: int = NEWEST

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        events, n_items = newest(requests.history, self.reads), self.similar.shape[0]
        summed = incidence(events.where(events.rows < n_items), n_items) @ self.similar
        summed.sort_indices()
        lists = CSR(summed.indptr.astype(np.int64), summed.indices.astype(np.int64))
        return SparseScores(lists, np.log1p(summed.data).astype(np.float32))


@dataclass(frozen=True)
class OwnFrequency:
    """Items the shopper took before: log(1 + how often)."""

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        taken = requests.taken
        span = int(taken.rows.max(initial=0)) + 1
        keys, counts = np.unique(taken.owners * span + taken.rows, return_counts=True)
        indptr = np.searchsorted(keys, np.arange(taken.n_lists + 1) * span)
        return SparseScores(CSR(indptr, keys % span), np.log1p(counts).astype(np.float32))


@dataclass(frozen=True)
class TakenBefore:
    """Items the shopper took before, 1 each however often."""

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        counted = OwnFrequency().read(requests)
        return replace(counted, values=np.ones_like(counted.values))


@dataclass(frozen=True)
class RecentlyBrowsed:
    """Items the shopper viewed or put in the cart and has not taken since: 1 for the most recent, then 1/2, 1/3, ..."""

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        return _most_recent_first(requests.browsed)


@dataclass(frozen=True)
class InCart:
    """Items the shopper put in the cart and has neither taken nor given back since: 1 for the most recent, then 1/2,
    1/3, ..."""

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        return _most_recent_first(requests.carted)


def _most_recent_first(lists: CSR) -> SparseScores:
    """1 for the last row of each list, which are distinct, 1/2 for the one before, ..."""
    owners = lists.owners
    order = np.lexsort((lists.rows, owners))
    values = 1.0 / (lists.indptr[1:][owners] - np.arange(len(lists.rows)))
    return SparseScores(CSR(lists.indptr, lists.rows[order]), values[order].astype(np.float32))


def newest(lists: CSR, n: int) -> CSR:
    """The last n rows of each list.

    >>> newest(CSR.from_lists([[3, 1, 2], [5]]), 2).rows.tolist()
    [1, 2, 5]
    """
    owners = lists.owners
    kept = lists.indptr[1:][owners] - np.arange(len(owners)) <= n
    return CSR(np.concatenate(([0], np.cumsum(kept)))[lists.indptr], lists.rows[kept])


def _recommends(case: FitCase) -> bool:
    return case.order != "search"


def _repeats(case: FitCase) -> bool:
    return case.order in ("recommend", "complete_cart") and not case.unseen


def _has_carts(parts: ReleaseParts) -> bool:
    return any(meaning(kind) in (Meaning.CART, Meaning.CHECKOUT) for kind in parts.timeline.kinds)


def _similar(name: str, reads: int) -> dict[str, Any]:
    """`make` and `available` of a source over the similarities `name` of a release."""

    def make(parts: ReleaseParts) -> CoOccurrence:
        read = parts.similarity(name)
        assert read is not None, "made only where it is available"
        return CoOccurrence(read(), reads)

    return {"make": make, "available": lambda parts: parts.similarity(name) is not None}


register_source(
    SourceSpec(
        name="co_occurrence",
        about="what users of the same items took",
        counts_for=_recommends,
        **_similar("together", NEWEST),
    )
)
register_source(
    SourceSpec(
        name="right_after",
        about="what was taken right after the last item",
        counts_for=_recommends,
        **_similar("after", 1),
    )
)
register_source(
    SourceSpec(
        name="looked_at",
        about="what the user looked at, or put in the cart, and did not take since",
        make=lambda parts: RecentlyBrowsed(),
        counts_for=_recommends,
    )
)
register_source(
    SourceSpec(
        name="in_cart",
        about="what the user put in the cart, and did not take since",
        make=lambda parts: InCart(),
        available=_has_carts,
        counts_for=_recommends,
    )
)
register_source(
    SourceSpec(
        name="own_frequency",
        about="how often the user took it before",
        make=lambda parts: OwnFrequency(),
        counts_for=_repeats,
    )
)
register_source(
    SourceSpec(
        name="taken_before",
        about="whether the user took it before",
        make=lambda parts: TakenBefore(),
        counts_for=_repeats,
    )
)
