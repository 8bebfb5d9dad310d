"""Segments: the updates of an index version on disk; each is complete, has checksums and never changes.

    index/<version>/delta/000001/     one update: manifest.json and, where it has any,
      items.arrow                     new and changed items, with every attribute of the version
      vectors.npy text_vectors.npy text_hashes.npy     of those items, as in a version
      deleted.arrow                   the ids of deleted items

A segment is written in the bundle's .staging and renamed into place by the holder of the writer lock, so that readers
find a whole segment or none. Each names the sha256 of the manifest before it, the first one that of the version, which
reveals gaps, swapped segments and segments of another version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexing.bundle.atomic_files import sync, sync_tree, write_npy
from indexing.bundle.manifest import MANIFEST, Manifest, file_sum, file_sums
from indexing.bundle.verify import AFTER, DELTA, Verification, segment_faults, segment_path
from indexing.version.hash_index import Hashes
from indexing.version.item_columns import read_table, write_table
from retrieval.errors import CorruptBundle
from retrieval.topk import Vectors

ITEMS, VECTORS, TEXT_VECTORS, TEXT_HASHES = "items.arrow", "vectors.npy", "text_vectors.npy", "text_hashes.npy"
DELETED = "deleted.arrow"


@dataclass(frozen=True)
class Upserts:
    """m new or changed items: attributes, readings float32 [m, dim or more], text vectors float32 [m, text_dim] and
    text hashes uint64 [m, 2]; see IndexVersion."""

    items: pa.Table
    readings: Vectors
    text_vectors: Vectors
    text_hashes: Hashes


@dataclass(frozen=True)
class Segment:
    """An update that was read; `sha256` is that of its manifest, which the next update names."""

    number: int
    sha256: str
    upserts: Upserts | None
    deleted: tuple[str, ...]


def write_segment(folder: Path, upserts: Upserts | None, deleted: Sequence[str]) -> None:
    """Write the files of a segment into an empty folder; raises OSError where the disk refuses."""
    if upserts is not None:
        n = upserts.items.num_rows
        write_table(folder / ITEMS, upserts.items)
        write_npy(folder / VECTORS, n, [upserts.readings])
        write_npy(folder / TEXT_VECTORS, n, [upserts.text_vectors])
        write_npy(folder / TEXT_HASHES, n, [upserts.text_hashes])
    if deleted:
        write_table(folder / DELETED, pa.table({"item_id": pa.array(deleted, pa.string())}))


def append_segment(version: Path, folder: Path, number: int) -> Path:
    """Move a written folder, on the same file system, into place as segment `number` of a version; returns its path.

    The caller must hold the bundle's writer lock, and `number` must be one more than the last segment's.
    """
    before = version if number == 1 else segment_path(version, number - 1)
    final = segment_path(version, number)
    about = {AFTER: file_sum(before / MANIFEST).sha256}
    manifest = Manifest(kind=DELTA, name=final.name, files=file_sums(folder), about=dict(about))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    sync_tree(folder)
    final.parent.mkdir(exist_ok=True)
    sync(version)
    folder.replace(final)
    sync(final.parent)
    return final


def segment_counts(version: Path) -> tuple[int, int, int]:
    """The number of a version's updates, of the items that they upserted and of the ids that they deleted, counting
    those of several updates each time. Checksums are not compared."""
    number, upserted, deleted = 0, 0, 0
    while has_segment(version, number + 1):
        number += 1
        folder = segment_path(version, number)
        upserted += read_table(folder / ITEMS).num_rows if (folder / ITEMS).exists() else 0
        deleted += read_table(folder / DELETED).num_rows if (folder / DELETED).exists() else 0
    return number, upserted, deleted


def has_segment(version: Path, number: int) -> bool:
    """Whether the version in that folder, which need not exist, has segment `number`."""
    return segment_path(version, number).is_dir()


def read_segment(version: Path, number: int, after: str) -> Segment:
    """Read segment `number` of a version; it has to follow the manifest of sha256 `after`.

    Every file is compared with its checksum. Raises CorruptBundle for a damaged file, or a segment that follows another
    manifest.
    """
    folder = segment_path(version, number)
    manifest = Manifest.read(folder)
    sums = manifest.files.values()
    faults = tuple(segment_faults(folder, manifest, after))
    Verification(f"update {number} of {version}", len(sums), sum(file.bytes for file in sums), faults).require_sound()
    try:
        deleted = read_table(folder / DELETED)["item_id"].to_pylist() if DELETED in manifest.files else []
        upserts = _upserts(folder) if ITEMS in manifest.files else None
    except (OSError, ValueError, EOFError, KeyError, pa.ArrowException) as error:
        raise CorruptBundle(f"{folder} cannot be read ({error}); restore it or build the index again") from error
    return Segment(number, file_sum(folder / MANIFEST).sha256, upserts, tuple(deleted))


def _upserts(folder: Path) -> Upserts:
    arrays = [np.load(folder / name, allow_pickle=False) for name in (VECTORS, TEXT_VECTORS, TEXT_HASHES)]
    return Upserts(read_table(folder / ITEMS), *arrays)
