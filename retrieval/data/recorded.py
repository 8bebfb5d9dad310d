"""Events that were recorded while an engine answered, read as rows of events.parquet; and who is to be forgotten."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.data.schema import CONTRACT, EVENTS
from retrieval.data.time_units import SECOND

SAME = SECOND  # events of one user, item and kind that are nearer in time are one event, which two systems noted
NEVER = -1


@dataclass(frozen=True, kw_only=True)
class RecordedEvents:
    """The events of a store up to a position, and the users that are forgotten.

    place: where the store is. store: its identity. table: the events in the columns of events.parquet, in the order in
    which they were stored; None: only who is forgotten was read. forgotten_at: for user ids the time, int64 [n]
    microseconds since 1970, up to which what they did is not to be read, NEVER for others. fingerprint: of all that.
    """

    place: str
    store: str
    position: int
    table: pa.Table | None
    forgotten_at: Callable[[Sequence[str]], NDArray[np.int64]]
    fingerprint: str

    @property
    def source(self) -> TableSource | None:
        """The events as a file's rows are read; None where there are none."""
        return TableSource(Path(self.place), self.table) if self.table is not None and self.table.num_rows else None


@dataclass(frozen=True)
class TableSource:
    """A table in the columns of events.parquet in place of the file; see `retrieval.data.schema.RowSource`."""

    path: Path
    table: pa.Table
    extra: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of events."""
        return int(self.table.num_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The contract's columns that the table has."""
        return tuple(self.table.column_names)

    @property
    def required(self) -> tuple[str, ...]:
        """Those that it has to have."""
        return tuple(column.name for column in CONTRACT[EVENTS] if column.required)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that it lacks."""
        return tuple(column.name for column in CONTRACT[EVENTS] if column.name not in self.table.column_names)

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """The rows, in batches."""
        yield from self.table.select(list(columns)).to_batches(max_chunksize=1 << 17)


def held_by(rows: NDArray[np.void], known: NDArray[np.void]) -> NDArray[np.bool_]:
    """Mask of the rows of events that others hold already: of the same user, item and kind, within a second; bool
    [n]. Both have the fields user, item, kind and time."""
    times = defaultdict[tuple[int, int, int], list[int]](list)
    for user, item, kind, time in _keys(known[np.isin(known["user"], rows["user"])]):
        times[user, item, kind].append(time)
    for found in times.values():
        found.sort()
    held = np.zeros(len(rows), bool)
    for at, (user, item, kind, time) in enumerate(_keys(rows)):
        found = times.get((user, item, kind), [])
        near = bisect_left(found, time - SAME + 1)
        held[at] = near < len(found) and found[near] < time + SAME
    return held


def _keys(rows: NDArray[np.void]) -> Iterator[tuple[int, int, int, int]]:
    return zip(*(rows[name].tolist() for name in ("user", "item", "kind", "time")), strict=True)
