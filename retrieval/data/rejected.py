"""The file that bad rows are written to, so that nothing of a data set is dropped silently."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval.errors import BadConfig

VALUE_SHOWN = 60  # characters of a value in messages
_REJECTED = pa.schema(
    {"file": pa.string(), "row": pa.int64(), "rule": pa.string(), "action": pa.string(), "record": pa.string()}
)


class Found(NamedTuple):
    """The rows of one batch that break one rule: `rows` int64 positions in the batch, `column` the one to show."""

    rule: str
    action: str
    column: str
    rows: NDArray[np.int64]
    unknown: bool


class RejectedRows:
    """Writes bad rows to a parquet file at `path`, atomically when the block ends without an error.

    Columns: `file`, `row` (from 0), `rule`, `action`, `record` (the row as JSON). Without bad rows no file is written,
    and that of an earlier run is removed. With `path` None nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._writer: pq.ParquetWriter | None = None
        self._draft = path.with_name(f".{path.name}.{os.getpid()}") if path else None

    def add(self, file: str, batch: pa.RecordBatch, first_row: int, found: Iterable[Found]) -> None:
        """Writes the findings of a batch of `file`. Raises `BadConfig` where the file cannot be written."""
        if self._draft is None:
            return
        for rule, action, _, rows, _ in found:
            n = len(rows)
            values = [[file] * n, rows + first_row, [rule] * n, [action] * n, records(batch, rows)]
            self._write(self._draft, pa.table(values, schema=_REJECTED))

    def _write(self, draft: Path, table: pa.Table) -> None:
        try:
            if self._writer is None:
                draft.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(draft, _REJECTED)
            self._writer.write_table(table)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> BadConfig:
        full = error.errno == errno.ENOSPC
        reason = os.strerror(errno.ENOSPC) if full else str(error)
        advice = "free some space, then run it again" if full else "choose another place"
        return BadConfig(f"cannot write bad rows to {self.path}: {reason}; {advice}")

    def __enter__(self) -> RejectedRows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.path is None or self._draft is None:
            return
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None and self._writer is not None:
                self._draft.replace(self.path)
            elif kind is None:
                self.path.unlink(missing_ok=True)
        except OSError as failure:
            raise self._unwritable(failure) from failure
        finally:
            with suppress(OSError):
                self._draft.unlink(missing_ok=True)


def records(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> list[str]:
    """The given rows as JSON: bytes that are not UTF-8 as escapes, values without a JSON type as text."""
    taken = batch.take(pa.array(rows))
    columns = [cells(column) for column in taken.columns]
    names = batch.schema.names
    return [
        json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, default=str)
        for values in zip(*columns, strict=True)
    ]


def cells(column: pa.Array) -> list[object]:
    """The values of a column in types that `json.dumps` accepts."""
    kind = column.type
    try:
        if pa.types.is_string(kind):
            return [_decoded(value) for value in column.cast(pa.binary()).to_pylist()]
        if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
            lists = column.cast(pa.list_(pa.binary())).to_pylist()
            return [None if values is None else [_decoded(value) for value in values] for values in lists]
        if pa.types.is_timestamp(kind):
            return list(column.cast(pa.int64()).cast(pa.timestamp(kind.unit)).cast(pa.string()).to_pylist())
        values = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):  # a value that Python cannot represent
        return [f"<{kind}>"] * len(column)
    return [str(value) if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def shown(value: object) -> str:
    """A value for a message: on one line, quoted, with control characters escaped, cut to 60 characters.

    >>> shown("a\\n"), shown(None), shown("x" * 1000)[-15:]
    ("'a\\\\n'", 'null', ' (1,000 in all)')
    """
    if value is None:
        return "null"
    text = str(value)
    return repr(text) if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]!r}... ({len(text):,} in all)"
