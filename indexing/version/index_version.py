"""An index version opened for reading: its files are memory-mapped, and its updates are held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from indexing.ann.opening import SearchSpec, open_index
from indexing.ann.protocols import VectorIndex
from indexing.bundle.manifest import MANIFEST, JsonMap, Manifest, file_sum
from indexing.version.delta import Delta
from indexing.version.hash_index import Hashes, HashIndex, rows_of
from indexing.version.item_columns import StoredColumn, read_column, read_table
from indexing.version.item_groups import ItemGroups
from indexing.version.segments import Segment, has_segment, read_segment
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact
from retrieval.topk import CSR, Hits, Mask, Rows, Vectors

VECTORS = "vectors.npy"
TEXT_VECTORS = "text_vectors.npy"
TEXT_HASHES = "text_hashes.npy"
ID_HASHES = "id_hashes.npy"
ID_FIRST = "id_first.npy"
ID_ROWS = "id_rows.npy"
ITEMS = "items.arrow"
FAISS_FILE = "index.faiss"
COLUMNS = "columns"


@dataclass(frozen=True)
class IndexVersion:
    """The items of a release: their attributes, vectors and index. A row is a position in all of them.

    The fields are as built: `items` holds item_id and every column of the data set's items. `vectors` float32 [n, dim]
    are searched; `readings` float32 [n, dim or more] begin with them, and histories are read from these. `text_vectors`
    float32 [n, text_dim] is None where vectors were not made from texts; `text_hashes` uint64 [n, 2] are those of the
    rendered texts. `delta` holds later updates, None without any; it replaces the data of rows and adds rows beyond n,
    which the methods take into account. Safe to read from many threads.
    """

    folder: Path
    manifest: Manifest
    items: pa.Table
    vectors: Vectors
    readings: Vectors
    text_vectors: Vectors | None
    text_hashes: Hashes
    index: VectorIndex
    lookup: HashIndex
    delta: Delta | None = None

    @classmethod
    def open(cls, folder: Path, *, device: str = "auto") -> IndexVersion:
        """Open a version as it was built; `updated` then reads its updates.

        Raises CorruptBundle for a file that cannot be read, and what `choose_device` raises.
        """
        manifest = Manifest.read(folder)
        spec = _search_spec(folder, manifest.about)
        readings = _mapped(folder / VECTORS)
        vectors = readings[:, : spec.dim]
        text_path = folder / TEXT_VECTORS
        lookup = HashIndex(*(_mapped(folder / name) for name in (ID_FIRST, ID_ROWS, ID_HASHES)))
        return cls(
            folder=folder,
            manifest=manifest,
            items=_items(folder / ITEMS),
            vectors=vectors,
            readings=readings,
            text_vectors=_mapped(text_path) if text_path.exists() else None,
            text_hashes=_mapped(folder / TEXT_HASHES),
            index=open_index(
                folder / FAISS_FILE,
                vectors,
                factory=spec.factory,
                params=spec.params,
                exact_rows=spec.exact_rows,
                device=device,
            ),
            lookup=lookup,
        )

    @property
    def name(self) -> str:
        """The version's name."""
        return self.manifest.name

    @property
    def size(self) -> int:
        """The number of rows, with those of deleted items."""
        return int(self.vectors.shape[0]) if self.delta is None else self.delta.size

    @property
    def dim(self) -> int:
        """The number of dimensions that are searched."""
        return int(self.vectors.shape[1])

    @property
    def revision(self) -> int:
        """The number of the last update that was read, 0 for none."""
        return 0 if self.delta is None else self.delta.number

    def updated(self) -> IndexVersion:
        """This version with the updates that were appended since it was opened; itself where there are none.

        Raises CorruptBundle for an update that is damaged or of another version.
        """
        version = self
        while has_segment(self.folder, version.revision + 1):
            after = file_sum(self.folder / MANIFEST).sha256 if version.delta is None else version.delta.sha256
            version = version._with_segment(read_segment(self.folder, version.revision + 1, after))
        return version

    def _with_segment(self, segment: Segment) -> IndexVersion:
        texts = self.readings[:, :0] if self.text_vectors is None else self.text_vectors
        delta = self.delta or Delta.empty(self.items, self.readings, texts)
        ids = [] if segment.upserts is None else segment.upserts.items["item_id"].to_pylist()
        return replace(self, delta=delta.with_segment(segment, self.rows_of(ids), self.rows_of(segment.deleted)))

    @property
    def ids(self) -> pa.ChunkedArray:
        """The item ids, by row."""
        return self.items_at(np.arange(self.size))["item_id"] if self.delta else self.items["item_id"]

    def rows_of(self, ids: Sequence[str]) -> Rows:
        """The row of each item id, int64; -1 for unknown ids. Deleted items keep their row."""
        found = rows_of(ids, self.lookup, self.items["item_id"])
        if self.delta is not None and self.delta.new:
            later = np.fromiter((self.delta.new.get(item_id, -1) for item_id in ids), np.int64, len(ids))
            found = np.where(found < 0, later, found)
        return found

    def ids_of(self, rows: Rows) -> list[str]:
        """The item id of each row; rows must not be -1."""
        return cast(list[str], self.values_at("item_id", rows).to_pylist())

    def values_at(self, name: str, rows: Rows) -> pa.ChunkedArray:
        """An attribute's values at rows; null at row -1."""
        return self.stored[name].take(pa.array(self._places(rows), mask=rows < 0))

    def items_at(self, rows: Rows) -> pa.Table:
        """The attributes at rows."""
        return self.stored.take(pa.array(self._places(rows)))

    def vectors_at(self, rows: Rows) -> Vectors:
        """The searched vectors of rows, float32 [len(rows), dim]."""
        return self._numbers_at(self.vectors, rows)

    def readings_at(self, rows: Rows) -> Vectors:
        """The vectors that histories read, float32 [len(rows), dim or more]."""
        return self._numbers_at(self.readings, rows)

    @cached_property
    def stored(self) -> pa.Table:
        """The attributes of the build, then those of every update, including replaced ones."""
        return self.items if self.delta is None else pa.concat_tables([self.items, self.delta.items])

    @cached_property
    def groups(self) -> ItemGroups | None:
        """Which items are variants of one product; None where no item names one."""
        return ItemGroups.of(self.stored, None if self.delta is None else self.delta.place)

    def by_row(self, stored: Mask) -> Mask:
        """Turn a mask over `stored` into a mask over rows."""
        return stored if self.delta is None else stored[self.delta.place]

    def answerable(self, allowed: Mask | None = None) -> Mask | None:
        """The rows that are allowed and not deleted, bool [size]; None for all rows."""
        deleted = None if self.delta is None or not self.delta.deleted.any() else self.delta.deleted
        if deleted is None or allowed is None:
            return allowed if deleted is None else ~deleted
        return allowed & ~deleted

    def held(self, ids: Sequence[str]) -> list[str]:
        """Those of the item ids that are known and not deleted, in their order."""
        rows, answerable = self.rows_of(ids), self.answerable()
        there = rows >= 0 if answerable is None else (rows >= 0) & answerable[rows]
        return [ids[at] for at in np.flatnonzero(there).tolist()]

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None, exclude: CSR | None = None) -> Hits:
        """The k best rows of each query float32 [n, dim], without deleted items; see VectorIndex."""
        if self.delta is None:
            return self.index.search(queries, k, allowed=allowed, exclude=exclude)
        return self.delta.search(self.index, queries, k, allowed, exclude)

    def as_built(self, rows: Rows) -> Mask:
        """Which rows no update has changed, bool [len(rows)]; see `column`."""
        return np.asarray(self._places(rows) < self.items.num_rows)

    def _places(self, rows: Rows) -> Rows:
        return rows if self.delta is None else self.delta.place[rows]

    def _numbers_at(self, base: Vectors, rows: Rows) -> Vectors:
        return np.asarray(base[rows]) if self.delta is None else self.delta.vectors_at(base, rows)

    def column(self, name: str, fingerprint: str | None = None) -> StoredColumn:
        """An item column as it was built, n values. They are valid for the rows of which `as_built` is true; the caller
        computes the others. Raises BadBundle where the column is not stored, StaleArtefact where it has another
        fingerprint."""
        stored = self.manifest.about.get("columns")
        entry = stored.get(name) if isinstance(stored, dict) else None
        if not isinstance(entry, dict):
            raise BadBundle(f"{self.folder} holds no item column {name}; run: shortlist index build")
        if fingerprint is not None and entry["fingerprint"] != fingerprint:
            raise StaleArtefact(
                f"column {name} of {self.folder} was made by {entry['fingerprint']}, {fingerprint} is in use; "
                "build the index again"
            )
        return read_column(self.folder / str(entry["file"]))

    def has_whole_column(self, name: str) -> bool:
        """Whether the files of an item column and of the text hashes match their checksums, so that values may be
        copied to a new version."""
        stored, files = self.manifest.about.get("columns"), self.manifest.files
        entry = stored.get(name) if isinstance(stored, dict) else None
        if not isinstance(entry, dict):
            return False
        return all(file_sum(self.folder / file) == files.get(file) for file in (str(entry["file"]), TEXT_HASHES))


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); restore it or build the index again") from error


def _items(path: Path) -> pa.Table:
    try:
        return read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); restore it or build the index again") from error


def _search_spec(folder: Path, about: JsonMap) -> SearchSpec:
    try:
        return SearchSpec.of(about)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptBundle(
            f"{folder}/manifest.json does not say how to search the index ({error}); build the index again"
        ) from error
