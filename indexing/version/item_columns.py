"""Further data that an index version stores per item, such as token ids.

The index knows only a column's name, fingerprint and values: numpy values are stored as a .npy file, Arrow values as an
Arrow file, both memory-mapped for reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.bundle.atomic_files import write_npy
from indexing.bundle.releases import check_name

PART = 16_384  # rows computed and written at a time

ColumnValues: TypeAlias = NDArray[np.generic] | pa.Array
StoredColumn: TypeAlias = NDArray[np.generic] | pa.ChunkedArray


class ItemColumn(Protocol):
    """Computes one value per item; `fingerprint` changes whenever the values would."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def compute(self, items: pa.Table, start: int, stop: int) -> ColumnValues:
        """The values of rows start to stop: an array of stop - start rows, of the same kind for every part."""
        ...


def write_column(folder: Path, column: ItemColumn, items: pa.Table) -> Path:
    """Compute a column part by part and write it to `folder`; returns the file's path.

    Raises ValueError where a part has the wrong length, BadBundle where the column's name is no file name.
    """
    name = check_name(column.name, "item column")
    parts = _parts(column, items)
    first = next(parts)
    folder.mkdir(exist_ok=True)
    if isinstance(first, np.ndarray):
        path = folder / f"{name}.npy"
        write_npy(path, items.num_rows, map(np.asarray, chain([first], parts)))
        return path
    path = folder / f"{name}.arrow"
    schema = pa.schema([(name, first.type)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for part in chain([first], parts):
            writer.write_batch(pa.record_batch([part], schema=schema))
    return path


def read_column(path: Path) -> StoredColumn:
    """Read a stored column, memory-mapped."""
    if path.suffix == ".npy":
        values: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        return values
    return read_table(path).column(0)


def write_table(path: Path, table: pa.Table, *, rows: int = 65_536) -> None:
    """Write a table as an uncompressed Arrow file, in batches of `rows` rows, to be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)


def read_table(path: Path) -> pa.Table:
    """Open a table of an Arrow file, memory-mapped: data are read when they are used."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _parts(column: ItemColumn, items: pa.Table) -> Iterator[ColumnValues]:
    for start in range(0, items.num_rows, PART):
        stop = min(start + PART, items.num_rows)
        values = column.compute(items, start, stop)
        if len(values) != stop - start:
            raise ValueError(f"column {column.name} returned {len(values)} values for rows {start} to {stop}")
        yield values
