"""The audit of one file: bad rows are found by rule, batch by batch, and counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.check_report import LEFT_OUT, SET_ASIDE, FileReport, Finding
from retrieval.data.rejected import Found, RejectedRows, cells, shown
from retrieval.data.schema import RowSource

Bools = NDArray[np.bool_]


class Screen:
    """The validation of one batch. A row that one rule sets aside is not counted by later rules.

    Text that is not UTF-8 is replaced by null first, so that the rules can rely on it.
    """

    def __init__(self, batch: pa.RecordBatch, first_row: int, required: Collection[str] = ()) -> None:
        self.raw = batch
        self.first_row = first_row
        self.n = batch.num_rows
        self.dropped: Bools = np.zeros(self.n, bool)
        self.unknown: Bools = np.zeros(self.n, bool)
        self.repaired: Bools = np.zeros(self.n, bool)
        self.found: list[Found] = []
        self.remarks: list[Found] = []
        self._columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in batch.schema.names:
            self._refuse_broken_text(name, name in required)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def column(self, name: str) -> pa.Array:
        """A column of the batch, with null for text that is not UTF-8."""
        return self._columns[name]

    def drop(self, rule: str, bad: Bools, column: str, *, unknown: bool = False) -> None:
        """Sets aside the rows of the mask `bad` that are still kept; the report shows the value of `column`."""
        fresh = bad & ~self.dropped
        self.dropped |= fresh
        if unknown:
            self.unknown |= fresh
        self._note(rule, SET_ASIDE, unknown, column, fresh)

    def repair(self, rule: str, bad: Bools, column: str, action: str = LEFT_OUT) -> None:
        """Counts the rows of the mask `bad` that are kept but lose their value of `column`, or a part of it."""
        fresh = bad & ~self.dropped
        self.repaired |= fresh
        self._note(rule, action, False, column, fresh)

    def remark(self, rule: str, rows: Bools, column: str, action: str) -> None:
        """Counts the kept rows of the mask that are not bad, but are not read as they stand."""
        found = Found(rule, action, column, np.flatnonzero(rows & ~self.dropped), False)
        self.remarks += [found] * bool(len(found.rows))

    def _note(self, rule: str, action: str, unknown: bool, column: str, fresh: Bools) -> None:
        if fresh.any():
            self.found.append(Found(rule, action, column, np.flatnonzero(fresh), unknown))

    def _refuse_broken_text(self, name: str, required: bool) -> None:
        broken = _broken_text(self._columns[name])
        if broken is None:
            return
        reject = self.drop if required else self.repair
        reject(f"{name} that is not UTF-8", broken, name)
        column = self._columns[name]
        self._columns[name] = pc.if_else(pa.array(broken), pa.scalar(None, column.type), column)


def _broken_text(column: pa.Array) -> Bools | None:
    """Mask of the rows whose text is not UTF-8; None if all are, or if the column holds no text."""
    nested = pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type)
    if not nested and not pa.types.is_string(column.type):
        return None
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        values = pc.list_flatten(column) if nested else column
        bad = np.array([not _is_utf8(value) for value in values.cast(pa.binary()).to_pylist()], bool)
        if not nested:
            return bad
        owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        return np.bincount(owners[bad], minlength=len(column)) > 0
    return None


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(kw_only=True)
class FileAudit:
    """The running counts of one file, to be compared with its limits at the end."""

    source: RowSource
    max_bad: float
    max_unknown: float
    rejected: RejectedRows
    known_id: str = ""
    bad: int = 0
    unknown: int = 0
    dropped: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        self._findings: dict[tuple[str, str], Finding] = {}
        self._remarks: dict[tuple[str, str], Finding] = {}

    def screens(self, columns: tuple[str, ...]) -> Iterator[Screen]:
        """One screen per batch; its findings are recorded once the next one is requested."""
        for batch in self.source.batches(columns):
            screen = Screen(batch, self.seen, self.source.required)
            yield screen
            self._record(screen)

    def _record(self, screen: Screen) -> None:
        self.seen += screen.n
        self.unknown += int(screen.unknown.sum())
        self.dropped += int(screen.dropped.sum())
        self.bad += int(((screen.dropped | screen.repaired) & ~screen.unknown).sum())
        for counts, all_found in ((self._findings, screen.found), (self._remarks, screen.remarks)):
            for found in all_found:
                key = found.rule, found.action
                earlier = counts.get(key) or _first_finding(screen, found)
                counts[key] = replace(earlier, rows=earlier.rows + len(found.rows))
        self.rejected.add(self.source.path.name, screen.raw, screen.first_row, screen.found)

    def report(self) -> FileReport:
        """The report on the file, once all its screens have been processed."""
        return FileReport(
            path=str(self.source.path),
            rows=self.seen,
            kept=self.seen - self.dropped,
            bad=self.bad,
            unknown=self.unknown,
            max_bad=self.max_bad,
            max_unknown=self.max_unknown,
            findings=tuple(self._findings.values()),
            remarks=tuple(self._remarks.values()),
            columns=self.source.columns,
            missing=self.source.missing,
            extra=self.source.extra,
            known_id=self.known_id,
            unread=self.source.unread,
            renames=self.source.renames,
        )


def _first_finding(screen: Screen, found: Found) -> Finding:
    """A finding that counts no rows yet and shows the first of `found`."""
    row = int(found.rows[0])
    return Finding(
        rule=found.rule,
        action=found.action,
        rows=0,
        first_row=screen.first_row + row,
        value=shown(cells(screen.raw.column(found.column).slice(row, 1))[0]),
        unknown=found.unknown,
    )


class Codebook:
    """Consecutive integer codes for strings, in the order of first occurrence."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.codes: dict[str, int] = {}
        for text in known:
            self.codes.setdefault(text, len(self.codes))

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, column: pa.Array, kept: pa.Array, spelling: Callable[[str], str] = str) -> NDArray[np.int32]:
        """The code of each value, int32 [n], adding new ones; -1 for null and for what `spelling` normalises to empty.

        Rows outside of the bool array `kept` are -1 and add nothing.
        """
        return self._codes(pc.if_else(kept, column, None), lambda text: self._code_of(spelling(text)))

    def look_up(self, column: pa.Array) -> NDArray[np.int32]:
        """The code of each value, int32 [n]; -1 for null and for unknown values."""
        return self._codes(column, lambda text: self.codes.get(text, -1))

    def recoded(self, names: Sequence[str]) -> NDArray[np.int32]:
        """For each code the position of its string in `names`, -1 for one that is not there, int32 [n + 1]; the last
        entry, for code -1, is -1."""
        position = {name: at for at, name in enumerate(names)}
        return np.array([*(position.get(name, -1) for name in self.codes), -1], np.int32)

    def _code_of(self, text: str) -> int:
        return self.codes.setdefault(text, len(self.codes)) if text else -1

    @staticmethod
    def _codes(column: pa.Array, code_of: Callable[[str], int]) -> NDArray[np.int32]:
        encoded = column.dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        table = np.array([*(code_of(text) for text in distinct), -1], np.int32)
        codes: NDArray[np.int32] = table[encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)]
        return codes
