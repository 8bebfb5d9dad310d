"""Writes the items and vectors of an index version as one Parquet file, for any vector database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexing.bundle.atomic_files import sync, writing_to
from indexing.version.index_version import IndexVersion
from indexing.version.item_columns import PART
from retrieval.errors import BadConfig
from retrieval.topk import Rows, Vectors

ITEM_ID, VECTOR = "item_id", "vector"


class Exported(NamedTuple):
    """The file that was written."""

    path: Path
    items: int
    dim: int
    columns: tuple[str, ...]


def export_version(version: IndexVersion, path: Path, *, release: str, attributes: bool = False) -> Exported:
    """Write item_id and `vector`, a fixed-size list of float32, of every item that can be answered to a Parquet file.

    The inner product of a vector with a user's is the score. Updates that the version has read are applied; with
    `attributes`, every attribute becomes a column. The file is written in row groups under another name, then renamed,
    so that memory does not grow with the catalogue and readers never see half a file. The file's metadata hold
    `release`, `index`, `index_revision` and `metric`. Raises BadConfig where an attribute is named `vector`, BadBundle
    where the disk refuses.
    """
    if attributes and VECTOR in version.items.column_names:
        raise BadConfig(f"{version.folder}: items have an attribute named {VECTOR}; export without attributes")
    answerable = version.answerable()
    rows = np.arange(version.size) if answerable is None else np.flatnonzero(answerable)
    tables = _tables(version, rows, version.items.column_names if attributes else [ITEM_ID])
    about = {
        "release": release,
        "index": version.name,
        "index_revision": str(version.revision),
        "metric": "inner product",
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            columns = _write(beside, tables, about)
            sync(beside)
            beside.replace(path)
            sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    return Exported(path, len(rows), version.dim, tuple(columns))


def _tables(version: IndexVersion, rows: Rows, attributes: list[str]) -> Iterator[pa.Table]:
    """The rows as tables of a part each; one empty table where there is no row."""
    for start in range(0, max(1, len(rows)), PART):
        part = rows[start : start + PART]
        yield version.items_at(part).select(attributes).append_column(VECTOR, _lists(version.vectors_at(part)))


def _write(path: Path, tables: Iterator[pa.Table], about: dict[str, str]) -> list[str]:
    first = next(tables)
    columns: list[str] = first.column_names
    schema = first.schema.with_metadata(about)
    repeating = [name for name in columns if name != VECTOR]
    with path.open("wb") as file, pq.ParquetWriter(file, schema, use_dictionary=repeating) as writer:
        writer.write_table(first.cast(schema))
        for table in tables:
            writer.write_table(table.cast(schema))
    return columns


def _lists(vectors: Vectors) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
