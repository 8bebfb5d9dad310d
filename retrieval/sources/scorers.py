"""Sources that score candidates without proposing any: price fit and newness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.data.time_units import DAY
from retrieval.sources.behaviour import newest
from retrieval.sources.protocols import RequestBatch
from retrieval.sources.registry import ReleaseParts, SourceSpec, register_source
from retrieval.topk import CSR, Hits, Mask, Scores

PRICE = "price"
NEWEST_TAKEN = 50  # items a shopper took last, whose prices are read
PRIOR_PURCHASES = 2.0  # purchases with the spread of the whole shop that are added to every shopper's own


@dataclass(frozen=True)
class ScoreOnly:
    """Scores of a source that proposes nothing: `of` maps (request, item) pairs to float32 [n_pairs]."""

    of: Callable[[CSR], Scores]
    requests: int

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """See SourceScores; always empty."""
        del exclude, allowed
        shape = (self.requests, k)
        return Hits(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))

    def at(self, pairs: CSR) -> Scores:
        """See SourceScores."""
        return self.of(pairs)


@dataclass(frozen=True)
class PriceFit:
    """How close an item's price is to what the shopper usually pays: exp(-z² / 2); 0 where either is unknown.

    z is the distance of the log price from the median log price of the items the shopper took, in standard deviations
    of those. `prices` float [n_items] are log prices by row, nan where unknown; `spread` is their variance.
    """

    prices: NDArray[np.float64]
    spread: float

    @classmethod
    def of(cls, prices: NDArray[np.floating]) -> PriceFit:
        """From prices by row, float [n_items]; one that is not above 0 is unknown."""
        logs = np.log(np.where(prices > 0, prices, np.nan))
        return cls(logs, float(np.nanvar(logs)) if np.isfinite(logs).any() else 1.0)

    def read(self, requests: RequestBatch) -> ScoreOnly:
        """See CandidateSource."""
        taken = newest(requests.taken, NEWEST_TAKEN)
        median, spread = np.full(taken.n_lists, np.nan), np.ones(taken.n_lists)  # variance, both of log prices
        for line in np.flatnonzero(np.diff(taken.indptr)).tolist():
            own = self.prices[taken.rows[taken.indptr[line] : taken.indptr[line + 1]]]
            own = own[np.isfinite(own)]
            if len(own):
                median[line] = np.median(own)
                spread[line] = (len(own) * own.var() + PRIOR_PURCHASES * self.spread) / (len(own) + PRIOR_PURCHASES)

        def of(pairs: CSR) -> Scores:
            off = self.prices[pairs.rows] - median[pairs.owners]
            fit = np.exp(-(off**2) / (2 * np.maximum(spread[pairs.owners], 1e-9)))
            return np.where(np.isfinite(fit), fit, 0).astype(np.float32)

        return ScoreOnly(of, taken.n_lists)


@dataclass(frozen=True)
class Newness:
    """One over the days since an item's first event, 1 if that was the day before the request.

    0 for items without an event before the request's day, and for shoppers without a history: new items are of interest
    to those who know the others. `first` int64 [n_items + 1] is the day of each row's first event (whole days since
    1970, UTC), -1 without any; its last entry, -1, stands for all rows added later.
    """

    first: NDArray[np.int64]

    @classmethod
    def of(cls, time: NDArray[np.int64], item: NDArray[np.integer], n_items: int) -> Newness:
        """From times (microseconds since 1970) and items of events, in any order."""
        first = np.full(n_items + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, item, time // DAY)
        return cls(np.where(first < np.iinfo(np.int64).max, first, -1))

    def read(self, requests: RequestBatch) -> ScoreOnly:
        """See CandidateSource."""
        known = np.diff(requests.history.indptr) > 0

        def of(pairs: CSR) -> Scores:
            first = self.first[np.minimum(pairs.rows, len(self.first) - 1)]
            days = requests.day[pairs.owners] - first
            counts = (first >= 0) & (days > 0) & known[pairs.owners]
            return np.where(counts, 1 / np.maximum(days, 1), 0).astype(np.float32)

        return ScoreOnly(of, len(requests.day))


def _newness(parts: ReleaseParts) -> Newness:
    timeline = parts.timeline
    known = np.flatnonzero(timeline.item >= 0)
    return Newness.of(timeline.time[known], timeline.item[known], parts.n_items)


def _price_fit(parts: ReleaseParts) -> PriceFit:
    prices = parts.column(PRICE)
    assert prices is not None, "made only where it is available"
    return PriceFit.of(prices.cast(pa.float64()).to_numpy())


register_source(
    SourceSpec(
        name="newness",
        about="how new the item is",
        make=_newness,
        counts_for=lambda case: case.order != "search" and case.temporal and case.unseen,
        proposes=False,
    )
)
register_source(
    SourceSpec(
        name="price_fit",
        about="how near the item's price is to those of what the user took",
        make=_price_fit,
        available=lambda parts: parts.column(PRICE) is not None,
        counts_for=lambda case: case.order != "search" and case.unseen,
        proposes=False,
        follows_updates=True,
    )
)
