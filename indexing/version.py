"""An index version opened for reading: everything memory-mapped, nothing computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from indexing.columns import StoredColumn, read_column, read_table
from indexing.faiss_index import Effort
from indexing.index import VectorIndex
from indexing.lookup import Hashes, HashIndex, rows_of
from indexing.manifest import JsonMap, Manifest
from indexing.opening import open_index
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact
from retrieval.topk import Rows, Vectors

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

    `items` holds item_id and every column of the data set's items. `vectors` float32 [n, dim] are searched, `readings`
    [n, dim and more] begin with them and are what histories are read from. `text_vectors` float32 [n, text_dim] is
    None where the vectors were given and not made from text; `text_hashes` uint64 [n, 2] are of the rendered texts.
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

    @classmethod
    def open(cls, folder: Path, *, device: str = "auto") -> IndexVersion:
        """Open a version's folder. CorruptBundle names a file that cannot be read; see `choose_device` for others."""
        manifest = Manifest.read(folder)
        factory, effort, dim = _settings(folder, manifest.about)
        readings = _mapped(folder / VECTORS)
        vectors = readings[:, :dim]
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
            index=open_index(folder / FAISS_FILE, vectors, factory=factory, effort=effort, device=device),
            lookup=lookup,
        )

    @property
    def name(self) -> str:
        """The version's name."""
        return self.manifest.name

    @property
    def size(self) -> int:
        """The number of items."""
        return int(self.vectors.shape[0])

    @property
    def ids(self) -> pa.ChunkedArray:
        """The item ids, by row."""
        return self.items.column("item_id")

    def rows_of(self, ids: Sequence[str]) -> Rows:
        """The row of each item id, -1 for those that the version does not hold."""
        return rows_of(ids, self.lookup, self.ids)

    def ids_of(self, rows: Rows) -> list[str]:
        """The item id of each row; rows must be those of items, not -1."""
        return cast(list[str], self.ids.take(pa.array(rows)).to_pylist())

    def column(self, name: str, fingerprint: str | None = None) -> StoredColumn:
        """An item column. BadBundle where it was not stored, StaleArtefact where it has another fingerprint."""
        stored = self.manifest.about.get("columns")
        entry = stored.get(name) if isinstance(stored, dict) else None
        if not isinstance(entry, dict):
            raise BadBundle(f"{self.folder} holds no item column {name}; build the index again")
        if fingerprint is not None and entry["fingerprint"] != fingerprint:
            raise StaleArtefact(
                f"column {name} of {self.folder} was made by {entry['fingerprint']}, {fingerprint} is in use; "
                "build the index again"
            )
        return read_column(self.folder / str(entry["file"]))


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


def _settings(folder: Path, about: JsonMap) -> tuple[str, Effort, int]:
    try:
        effort, dim = about["effort"], about["dim"]
        return str(about["factory"]), Effort(**effort), int(dim)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptBundle(
            f"{folder}/manifest.json does not say how to search ({error}); build the index again"
        ) from error
