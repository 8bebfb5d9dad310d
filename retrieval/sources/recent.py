"""Candidate sources over a sliding window of days: recent popularity and recent co-occurrence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.data.time_units import DAY
from retrieval.data.timeline import Timeline
from retrieval.sources.behaviour import CoOccurrence
from retrieval.sources.cooccurrence import cosines
from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import FitCase, LaterTakings, ReleaseParts, SourceSpec, register_source
from retrieval.topk import CSR, Scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RECENT_DAYS = 14  # window of the recent co-occurrence
CACHED_DAYS = 32  # request days whose popularity a source caches
CACHED_VALUES = 40_000_000  # similarities that a source caches, 8 bytes each
SHRINKAGE = 10.0  # shoppers added to every item, see `cosines`: a few weeks of events are little evidence


class Counts(NamedTuple):
    """How often items were taken in a window of days."""

    rows: NDArray[np.int64]  # [m] ascending
    counts: NDArray[np.float64]  # [m] above 0
    scores: Scores  # [m] log(1 + counts)

    @classmethod
    def of(cls, rows: NDArray[np.int64], counts: NDArray[np.integer] | NDArray[np.floating]) -> Counts:
        """From rows and their counts."""
        return cls(rows, counts.astype(np.float64), np.log1p(counts).astype(np.float32))


@dataclass(frozen=True)
class RecentPopularity:
    """Recent popularity: log(1 + how often an item was taken in the `days` whole days before the request's day).

    `day` int64 [n_events], ascending, and `item` int64 [n_events] are the target events, days as in `RequestBatch`.
    """

    day: NDArray[np.int64]
    item: NDArray[np.int64]
    days: int
    _cache: dict[int, Counts] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, time: NDArray[np.int64], item: NDArray[np.integer], *, days: int) -> RecentPopularity:
        """From times (microseconds since 1970) and items of target events, in any order."""
        order = np.argsort(time, kind="stable")
        return cls(time[order] // DAY, item[order].astype(np.int64), days)

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        lines = [self._counts(int(today)) for today in requests.day]
        lists = CSR.from_lists([counts.rows for counts in lines])
        return SparseScores(lists, np.concatenate([np.empty(0, np.float32), *(counts.scores for counts in lines)]))

    def continued(self, later: LaterTakings) -> PopularityNow:
        """With what was taken since, as of now."""
        known = self._counts(later.today - later.shift)
        inside = (later.day >= later.today - self.days) & (later.day < later.today)
        size = int(max(known.rows.max(initial=-1), later.item.max(initial=-1))) + 1
        counts = np.zeros(size)
        counts[known.rows] = known.counts
        counts += np.bincount(later.item[inside], later.sign[inside], size)
        rows = np.flatnonzero(counts > 0)
        return PopularityNow(Counts.of(rows, counts[rows]))

    def _counts(self, today: int) -> Counts:
        """What was taken before a day."""
        if (cached := self._cache.get(today)) is not None:
            return cached
        window = slice(*np.searchsorted(self.day, [today - self.days, today]))
        made = Counts.of(*np.unique(self.item[window], return_counts=True))
        if len(self._cache) >= CACHED_DAYS:
            self._cache.clear()
        self._cache[today] = made
        return made


@dataclass(frozen=True)
class PopularityNow:
    """Recent popularity as of now, the same for every request."""

    counts: Counts

    def read(self, requests: RequestBatch) -> SparseScores:
        """See CandidateSource."""
        n = len(requests.day)
        return SparseScores(CSR.from_lists([self.counts.rows] * n), np.tile(self.counts.scores, n))


@dataclass(frozen=True)
class RecentCoOccurrence:
    """Co-occurrence over the `days` whole days before the request's day; scores as `CoOccurrence`.

    `day`, `user` and `item` int64 [n_events] are the target events in the order of time. `known` holds similarities
    computed before, by day, and caches new ones.
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
        """From times (microseconds since 1970), users and items of target events, in any order."""
        order = np.argsort(time, kind="stable")
        users, items = user[order].astype(np.int64), item[order].astype(np.int64)
        return cls(time[order] // DAY, users, items, n_items, days, known)

    @classmethod
    def of_timeline(
        cls, timeline: Timeline, kinds: Sequence[str], n_items: int, known: Mapping[int, csr_array] | None = None
    ) -> RecentCoOccurrence:
        """Over the last RECENT_DAYS days of a timeline's events of the given kinds."""
        taken = np.flatnonzero(np.isin(timeline.kind, timeline.codes_of(kinds)) & (timeline.item >= 0))
        users = np.repeat(np.arange(len(timeline.offsets) - 1), np.diff(timeline.offsets))
        return cls.of(
            timeline.time[taken],
            users[taken],
            timeline.item[taken],
            n_items,
            days=RECENT_DAYS,
            known=dict(known or {}),
        )

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
        """The similarities as of the beginning of a day, sparse float32 [n_items, n_items]."""
        if (cached := self.known.get(today)) is not None:
            return cached
        window = slice(*np.searchsorted(self.day, [today - self.days, today]))
        by_user = np.argsort(self.user[window], kind="stable")
        made = cosines(self.user[window][by_user], self.item[window][by_user], self.n_items, shrinkage=SHRINKAGE)
        while self.known and sum(one.nnz for one in tuple(self.known.values())) + made.nnz > CACHED_VALUES:
            self.known.pop(next(iter(tuple(self.known)), today), None)
        self.known[today] = made
        return made


def _of_late(case: FitCase) -> bool:
    return case.order != "search" and case.temporal


def _sold(days: int, parts: ReleaseParts) -> RecentPopularity:
    timeline = parts.timeline
    taken = np.flatnonzero(np.isin(timeline.kind, timeline.codes_of(parts.targets)) & (timeline.item >= 0))
    return RecentPopularity.of(timeline.time[taken], timeline.item[taken], days=days)


def _together(parts: ReleaseParts) -> RecentCoOccurrence:
    read = parts.similarity("lately")
    known = {} if read is None else {parts.today: read()}
    return RecentCoOccurrence.of_timeline(parts.timeline, parts.targets, parts.n_items, known)


for _days in (7, 30):
    register_source(
        SourceSpec(
            name=f"popularity_{_days}d",
            about=f"what sold in the {_days} days before",
            make=partial(_sold, _days),
            continued=RecentPopularity.continued,
            counts_for=_of_late,
        )
    )
register_source(
    SourceSpec(
        name=f"together_{RECENT_DAYS}d",
        about=f"what users of the same items took in the {RECENT_DAYS} days before",
        make=_together,
        counts_for=_of_late,
    )
)
