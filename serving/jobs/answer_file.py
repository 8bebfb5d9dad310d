"""Requests of a file, or all that a release could be asked, answered into a parquet file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexing.bundle.atomic_files import sync, writing_to
from retrieval.errors import BadData, BadRequest
from serving.answering.many import BLOCK, Asked, Key
from serving.answering.release_state import ReleaseState

AskMany = Callable[[Asked], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class AnsweredFile:
    """What was written to `path`: `answered` requests with at least one hit; how often what stood in for what was
    missing, and how often what was left out because it failed."""

    path: Path
    release: str
    answered: int
    hits: int
    seconds: float
    fallbacks: dict[str, int]
    degraded: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {**vars(self), "path": str(self.path), "seconds": round(self.seconds, 3)}


def requests_of(path: Path, key: Key) -> pa.RecordBatchReader:
    """The rows of a parquet file, block by block. Raises BadData where it cannot be read or lacks the column `key`."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        why = str(error).splitlines()[0]
        raise BadData(f"{path} cannot be read ({why}); give a parquet file with a column {key}") from error
    wanted = [name for name in dict.fromkeys((key, "user_id")) if name in file.schema_arrow.names]
    if key not in wanted:
        raise BadData(f"{path} has {', '.join(file.schema_arrow.names)}; call the column of ids or texts {key}")
    schema = pa.schema([file.schema_arrow.field(name) for name in wanted])
    return pa.RecordBatchReader.from_batches(schema, file.iter_batches(BLOCK, columns=wanted))


def everything(state: ReleaseState, key: Key) -> pa.Table:
    """Every shopper of a release, or every item that may be answered, as a table with the column `key`."""
    if key == "user_id":
        return pa.table({key: state.user_store.user_ids})
    may = state.version.answerable()
    rows = np.arange(state.version.size) if may is None else np.flatnonzero(may)
    return pa.table({key: state.version.values_at("item_id", rows)})


def write_answers(ask: AskMany, asked: Asked, out: Path, release: str) -> AnsweredFile:
    """Writes the hits to a parquet file, which is there once all are. Raises BadRequest for a
    folder that is not there, BadBundle where the disk refuses."""
    begun, fallbacks, degraded, answered, hits = time.perf_counter(), Counter[str](), Counter[str](), 0, 0
    if not out.parent.is_dir():
        raise BadRequest(f"{out}: there is no such folder; make {out.parent} first")
    scratch = out.with_name(f".{out.name}.part")
    batches = ask(asked)
    with writing_to(out.parent):
        try:
            writer = None
            for batch in batches:
                writer = writer or pq.ParquetWriter(scratch, batch.schema)
                writer.write_batch(batch)
                first = batch.filter(pc.equal(batch["rank"], 1))
                fallbacks.update(first["fallbacks"].flatten().to_pylist())
                degraded.update(first["degraded"].flatten().to_pylist())
                answered, hits = answered + first.num_rows, hits + batch.num_rows
            if writer is None:
                raise BadData("there is nothing to answer: the file has no rows")
            writer.close()
            sync(scratch)
            scratch.replace(out)
        finally:
            scratch.unlink(missing_ok=True)
        sync(out.parent)
    return AnsweredFile(out, release, answered, hits, time.perf_counter() - begun, dict(fallbacks), dict(degraded))
