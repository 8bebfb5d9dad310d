"""When events happened on items: those of a release, and those after it counted together with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Rows


class EventCounts(Protocol):
    """How often something happened to items."""

    def before(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of events of each row strictly before a time, int64 of the shape that both broadcast to."""
        ...

    def earliest(self, rows: Rows) -> NDArray[np.float64]:
        """The time of the first event of each row, float64 microseconds since 1970; nan for none."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class ItemEvents:
    """When events happened on each item: `keys` int64 ascending are row * span + time, times microseconds from 0; those
    of row i begin at `starts[i]`, int64 [n_items + 1]."""

    keys: NDArray[np.int64]
    starts: NDArray[np.int64]
    first: int  # the earliest time
    span: int

    @classmethod
    def of(cls, items: NDArray[np.integer], times: NDArray[np.int64], n_items: int) -> ItemEvents:
        """From item rows and times (microseconds since 1970), in any order."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        span = last - first + 2
        starts = np.concatenate(([0], np.cumsum(np.bincount(items, minlength=n_items))))
        return cls(np.sort(items.astype(np.int64) * span + (times - first)), starts, first, span)

    def before(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of events of each row strictly before a time, int64 of the shape that both broadcast to."""
        offset = np.clip(times - self.first, 0, self.span - 1)
        return np.searchsorted(self.keys, rows * self.span + offset) - self.starts[rows]

    def __len__(self) -> int:
        return len(self.keys)

    def earliest(self, rows: Rows) -> NDArray[np.float64]:
        """The time of the first event of each row, float64 microseconds since 1970; nan for none."""
        if not len(self.keys):
            return np.full(rows.shape, np.nan)
        there = self.starts[rows + 1] > self.starts[rows]
        first = self.keys[np.where(there, self.starts[rows], 0)] - rows * self.span + self.first
        return np.where(there, first, np.nan)


class LaterEvents(NamedTuple):
    """Events that are added to those of a release, and those that are taken from them: what was given back."""

    added: tuple[ItemEvents, ...]
    undone: ItemEvents


@dataclass(frozen=True)
class ContinuedEvents:
    """The events of a release, `shift` microseconds later than they were, and what happened since; see EventCounts.

    The shift leaves out the days between the release's last event and the first that was recorded, of which nothing is
    known: windows of the last days would find them empty.
    """

    known: EventCounts
    shift: int
    later: Callable[[], LaterEvents]  # called when first read

    def before(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """See EventCounts."""
        found = self.known.before(rows, times - self.shift) - self._later.undone.before(rows, times)
        for events in self._later.added:
            found += events.before(rows, times)
        return found

    def earliest(self, rows: Rows) -> NDArray[np.float64]:
        """See EventCounts."""
        found = self.known.earliest(rows) + self.shift
        for events in self._later.added:
            found = np.fmin(found, events.earliest(rows))
        return found

    def __len__(self) -> int:
        return len(self.known) + sum(map(len, self._later.added))

    @cached_property
    def _later(self) -> LaterEvents:
        return self.later()
