"""Candidate sources of what happens of late: what sells, and what is taken together, in the days before a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.data.time_units import DAY
from retrieval.sources.behaviour import CoOccurrence
from retrieval.sources.cooccurrence import cosines
from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.topk import CSR, Scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

KEPT_DAYS = 32  # of which a source remembers what it knows
DOUBT = 10.0  # shoppers that every item is thought to have had alone: of a few weeks little is known


@dataclass(frozen=True)
class RecentPopularity:
    """What sold in the `days` whole days before the request's own: log(1 + how often).

    `day` int64 [n_events] and `item` int64 [n_events] are what was taken, days ascending.
    """

    day: NDArray[np.int64]
    item: NDArray[np.int64]
    days: int
    _kept: dict[int, tuple[NDArray[np.int64], Scores]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, time: NDArray[np.int64], item: NDArray[np.integer], *, days: int) -> RecentPopularity:
        """From the times, in microseconds since 1970, and the items of what was taken, in any order."""
        order = np.argsort(time, kind="stable")
        return cls(time[order] // DAY, item[order].astype(np.int64), days)

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        lines = [self._line(int(today)) for today in requests.day]
        lists = CSR.from_lists([rows for rows, _ in lines])
        return SparseScores(lists, np.concatenate([np.empty(0, np.float32), *(values for _, values in lines)]))

    def _line(self, today: int) -> tuple[NDArray[np.int64], Scores]:
        """The rows of one day, ascending, and their scores."""
        if (kept := self._kept.get(today)) is not None:
            return kept
        window = slice(*np.searchsorted(self.day, [today - self.days, today]))
        rows, counts = np.unique(self.item[window], return_counts=True)
        made = rows, np.log1p(counts).astype(np.float32)
        if len(self._kept) >= KEPT_DAYS:
            self._kept.clear()
        self._kept[today] = made
        return made


@dataclass(frozen=True)
class RecentCoOccurrence:
    """What shoppers of the same items took in the `days` whole days before the request's own; see `CoOccurrence`.

    `day`, `user` and `item` int64 [n_events] are what was taken, by day and in the order of time. `known` are the
    similarities of some days that were made before, by their number.
    """

    day: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    n_items: int
    days: int
    known: dict[int, csr_array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        time: NDArray[np.int64],
        user: NDArray[np.integer],
        item: NDArray[np.integer],
        n_items: int,
        *,
        days: int,
        known: dict[int, csr_array],
    ) -> RecentCoOccurrence:
        """From the times, in microseconds since 1970, the shoppers and the items of what was taken, in any order."""
        order = np.argsort(time, kind="stable")
        users, items = user[order].astype(np.int64), item[order].astype(np.int64)
        return cls(time[order] // DAY, users, items, n_items, days, known)

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        lists = [np.empty(0, np.int64)] * len(requests.day)
        values = [np.empty(0, np.float32)] * len(requests.day)
        for today in np.unique(requests.day).tolist():
            lines = np.flatnonzero(requests.day == today)
            found = CoOccurrence(self.similar(today)).read(requests.select(lines))
            begin, end = found.lists.indptr[:-1], found.lists.indptr[1:]
            for line, part in zip(lines.tolist(), map(slice, begin.tolist(), end.tolist()), strict=True):
                lists[line], values[line] = found.lists.rows[part], found.values[part]
        return SparseScores(CSR.from_lists(lists), np.concatenate([np.empty(0, np.float32), *values]))

    def similar(self, today: int) -> csr_array:
        """The similarities before a day, sparse float32 [n_items, n_items]."""
        if (kept := self.known.get(today)) is not None:
            return kept
        window = slice(*np.searchsorted(self.day, [today - self.days, today]))
        by_user = np.argsort(self.user[window], kind="stable")
        made = cosines(self.user[window][by_user], self.item[window][by_user], self.n_items, doubt=DOUBT)
        while len(self.known) >= KEPT_DAYS and (oldest := next(iter(tuple(self.known)), None)) is not None:
            self.known.pop(oldest, None)
        self.known[today] = made
        return made
