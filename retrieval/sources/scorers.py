"""What orders candidates and proposes none: how well an item's price fits a shopper, and how new it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.data.time_units import DAY
from retrieval.sources.behaviour import newest
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Hits, Mask, Scores

READ = 50  # of what a shopper took, whose prices are read
DOUBT = 2.0  # purchases that every shopper is thought to have made at prices as far apart as the shop's


@dataclass(frozen=True)
class ScoreOnly:
    """Scores of pairs, `of` a CSR of them float32 [n_pairs], by something that proposes nothing itself."""

    of: Callable[[CSR], Scores]
    requests: int

    def top(self, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """See SourceScores: nothing."""
        del exclude, allowed
        shape = (self.requests, k)
        return Hits(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))

    def at(self, pairs: CSR) -> Scores:
        """See SourceScores."""
        return self.of(pairs)


@dataclass(frozen=True)
class PriceFit:
    """How near an item's price is to those of what the shopper took: exp(-z² / 2), where z counts from the median, on a
    logarithmic scale, in the spread of the shopper's own prices; 0 where either price is not known.

    `prices` float [n_items], by row, are logarithms, nan where none is known, and `spread` the variance of all.
    """

    prices: NDArray[np.float64]
    spread: float

    @classmethod
    def of(cls, prices: NDArray[np.floating]) -> PriceFit:
        """From the prices themselves; those that are not above 0 are not known."""
        logs = np.log(np.where(prices > 0, prices, np.nan))
        return cls(logs, float(np.nanvar(logs)) if np.isfinite(logs).any() else 1.0)

    def read(self, requests: RequestBatch) -> ScoreOnly:
        """See CandidateSource."""
        taken = newest(requests.taken, READ)
        middle, spread = np.full(taken.n_lists, np.nan), np.ones(taken.n_lists)  # of logarithms: median, variance
        for line in np.flatnonzero(np.diff(taken.indptr)).tolist():
            own = self.prices[taken.rows[taken.indptr[line] : taken.indptr[line + 1]]]
            own = own[np.isfinite(own)]
            if len(own):
                middle[line] = np.median(own)
                spread[line] = (len(own) * own.var() + DOUBT * self.spread) / (len(own) + DOUBT)

        def of(pairs: CSR) -> Scores:
            off = self.prices[pairs.rows] - middle[pairs.owners]
            fit = np.exp(-(off**2) / (2 * np.maximum(spread[pairs.owners], 1e-9)))
            return np.where(np.isfinite(fit), fit, 0).astype(np.float32)

        return ScoreOnly(of, taken.n_lists)


@dataclass(frozen=True)
class Newness:
    """1 over the days since an item's first event: 1 where that was yesterday. 0 where none came before the request's
    own day, and for whoever has no history: what sells is for them, what just came for those who know the rest.

    `first` int64 [n_items + 1] is the day of each row's first event, in whole days since 1970, UTC; -1 without any, as
    its last is: rows beyond came later, and nothing is known of them.
    """

    first: NDArray[np.int64]

    @classmethod
    def of(cls, time: NDArray[np.int64], item: NDArray[np.integer], n_items: int) -> Newness:
        """From the times, in microseconds since 1970, and the items of events, in any order."""
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
