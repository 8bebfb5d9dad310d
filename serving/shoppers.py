"""What the engine knows of its shoppers: each one's events, kept apart from the index so that either can be rebuilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.columns import read_table, write_table
from indexing.durable import write_array
from indexing.lookup import HashIndex, hash_keys, rows_of
from indexing.version import IndexVersion
from retrieval.baselines import cooccurrence
from retrieval.dataset import DataSet
from retrieval.encoder import read_json
from retrieval.errors import BadBundle
from retrieval.timeline import Timeline

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ARRAYS = ("item", "query", "kind", "time", "offsets")
TOGETHER = ("together", "together_rows", "together_indptr")  # cosines, their columns, where each item's begin


@dataclass(frozen=True)
class Shoppers:
    """The timeline of every known shopper, over the rows of one index version, how often each item was taken, and what
    goes with what.

    `popularity` float32 [n_items] counts the target events of each item; `together` reads a sparse float32 [n_items,
    n_items] of `retrieval.baselines.cooccurrence`, None in a bundle from before it was kept. Events of items that the
    index lacks are read as absent.
    """

    timeline: Timeline
    user_ids: pa.ChunkedArray
    query_texts: tuple[str, ...]
    popularity: NDArray[np.float32]
    lookup: HashIndex
    together: Callable[[], csr_array] | None = None

    def code(self, user_id: str) -> int | None:
        """The position of a shopper in the timeline, or None for one who is not known."""
        row = int(rows_of([user_id], self.lookup, self.user_ids)[0])
        return row if row >= 0 else None

    @classmethod
    def open(cls, folder: Path | None, version: IndexVersion) -> Shoppers:
        """Opens what `write_shoppers` wrote; without a folder, nobody is known and nothing is popular."""
        if folder is None:
            return cls.nobody(version.size)
        about = read_json(folder / "about.json")
        kinds = about.get("kinds")
        if not isinstance(kinds, list):
            raise BadBundle(f"{folder / 'about.json'} names no kinds of events; run: shortlist run")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        ids = read_table(folder / "items.arrow")["item_id"]
        rows = version.rows_of(ids.to_pylist()).astype(np.int32)
        item = np.where(arrays["item"] >= 0, rows[np.maximum(arrays["item"], 0)], -1).astype(np.int32)
        popularity = np.zeros(version.size, np.float32)
        counts = np.load(folder / "counts.npy")
        popularity[rows[rows >= 0]] = counts[rows >= 0]
        users = read_table(folder / "users.arrow")["user_id"]
        texts = tuple(read_table(folder / "queries.arrow")["text"].to_pylist())
        timeline = Timeline(kinds=tuple(map(str, kinds)), **(arrays | {"item": item}))
        lookup = HashIndex.build(hash_keys(users.to_pylist()))
        together = None
        if (folder / f"{TOGETHER[0]}.npy").exists():
            together = partial(_together, folder, rows.astype(np.int64), version.size)
        return cls(timeline, users, texts, popularity, lookup, together)

    @classmethod
    def nobody(cls, n_items: int) -> Shoppers:
        """No shopper at all."""
        empty = np.empty(0, np.int32)
        timeline = Timeline(
            item=empty, query=empty, kind=empty.astype(np.int16), time=empty.astype(np.int64),
            offsets=np.zeros(1, np.int64), kinds=(),
        )  # fmt: skip
        users = pa.chunked_array([pa.array([], pa.string())])
        return cls(timeline, users, (), np.zeros(n_items, np.float32), HashIndex.build(hash_keys([])))

    def recoded(self, kinds: tuple[str, ...]) -> Shoppers:
        """The same with event kinds in the order that a tower knows."""
        return replace(self, timeline=self.timeline.recoded(kinds))


def write_shoppers(folder: Path, data: DataSet, counted: NDArray[np.bool_], train: NDArray[np.bool_]) -> None:
    """Writes every event of the data set, how often each item stands in the events `counted`, bool [n_events], and what
    goes together in the events `train`, bool [n_events]."""
    assert data.events is not None
    timeline, _ = Timeline.from_events(data.events)
    for name in ARRAYS:
        write_array(folder / f"{name}.npy", getattr(timeline, name))
    counts = np.bincount(data.events.item[counted], minlength=data.n_items)
    write_array(folder / "counts.npy", counts.astype(np.float32))
    together = cooccurrence(data.events, train, data.n_items)
    for name, array in zip(TOGETHER, (together.data, together.indices, together.indptr), strict=True):
        write_array(folder / f"{name}.npy", array)
    write_table(folder / "items.arrow", pa.table({"item_id": pa.array(data.item_ids, pa.string())}))
    write_table(folder / "users.arrow", pa.table({"user_id": pa.array(data.user_ids, pa.string())}))
    write_table(folder / "queries.arrow", pa.table({"text": pa.array(data.events.query_texts, pa.string())}))
    (folder / "about.json").write_text(json.dumps({"kinds": list(timeline.kinds)}, ensure_ascii=False), "utf-8")


def _together(folder: Path, rows: NDArray[np.int64], n_items: int) -> csr_array:
    """What goes with what, from the rows that it was written by to those of an index, `rows` int64 [n_written]."""
    from scipy.sparse import csr_array

    cosines, columns, indptr = (np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in TOGETHER)
    if len(rows) == n_items and (rows == np.arange(n_items)).all():
        return csr_array((cosines, columns, indptr), (n_items, n_items))
    owners, columns = rows[np.repeat(np.arange(len(rows)), np.diff(indptr))], rows[columns]
    kept = (owners >= 0) & (columns >= 0)
    return csr_array((cosines[kept], (owners[kept], columns[kept])), (n_items, n_items))
