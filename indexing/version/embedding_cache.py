"""Vectors of texts that were embedded before, found by the hash of the text: what a build need not embed again.

They come from earlier versions and their updates, and from the parts of a build that did not end. A part is one .npy
file of (hash of the text, vector) named by its own checksum, written beside, synced and renamed. So a part that is
torn, changed or foreign does not match its name, and is skipped.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.atomic_files import replace_file
from indexing.bundle.manifest import file_sum
from indexing.version.hash_index import Hashes, HashIndex
from indexing.version.index_version import TEXT_HASHES, TEXT_VECTORS, IndexVersion
from retrieval.topk import Rows, Vectors

HASH, VECTOR = "hash", "vector"  # fields of a part's rows


class TextSource(NamedTuple):
    """Hashes of texts uint64 [n, 2], and their vectors float32 [n, text_dim] by one text encoder."""

    hashes: Hashes
    vectors: Vectors


class Places(NamedTuple):
    """Where the vector of each of n texts is: the number of a source (-1: none), and the row in it."""

    source: NDArray[np.int64]  # [n]
    row: Rows  # [n]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which texts were found, bool [n]."""
        return self.source >= 0

    def part(self, start: int, size: int) -> Places:
        """The places of `size` texts from `start` on."""
        return Places(self.source[start : start + size], self.row[start : start + size])


def text_sources(version: IndexVersion, text_encoder: str) -> list[TextSource]:
    """The text vectors of a version's updates and of its build, where they are of this encoder and their files match
    their checksums: damaged vectors are computed again, not copied."""
    if version.text_vectors is None or version.manifest.about.get("text_encoder") != text_encoder:
        return []
    delta, files = version.delta, version.manifest.files
    late = [] if delta is None else [TextSource(delta.text_hashes, delta.text_vectors)]
    whole = all(file_sum(version.folder / name) == files.get(name) for name in (TEXT_HASHES, TEXT_VECTORS))
    return [*late, TextSource(version.text_hashes, version.text_vectors)] if whole else late


def find_vectors(hashes: Hashes, sources: Sequence[TextSource]) -> Places:
    """Look up texts by hash uint64 [n, 2]; the first source that has a text is taken."""
    source, row = np.full(len(hashes), -1), np.full(len(hashes), -1)
    for number, known in enumerate(sources):
        wanted = np.flatnonzero(source < 0)
        rows = HashIndex.build(known.hashes).find(hashes[wanted])
        source[wanted[rows >= 0]], row[wanted] = number, rows
    return Places(source, row)


def gather(places: Places, sources: Sequence[TextSource]) -> Vectors:
    """The vectors at places, all of which must be found: float32 [n, text_dim]."""
    out = np.empty((len(places.source), sources[0].vectors.shape[1]), np.float32)
    for number, known in enumerate(sources):
        here = np.flatnonzero(places.source == number)
        out[here] = known.vectors[places.row[here]]
    return out


def first_of_each(hashes: Hashes) -> Rows:
    """The lowest position of each distinct hash uint64 [n, 2], ascending.

    >>> first_of_each(np.array([[1, 2], [1, 3], [1, 2]], np.uint64)).tolist()
    [0, 1]
    """
    return np.sort(np.unique(hashes, axis=0, return_index=True)[1])


class PartStore:
    """The parts of one text encoder, in a folder that is created with the first part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, hashes: Hashes, vectors: Vectors) -> None:
        """Save vectors float32 [n, dim] of texts by their hashes uint64 [n, 2]; raises OSError where the disk
        refuses."""
        rows = np.empty(len(hashes), [(HASH, "<u8", (2,)), (VECTOR, "<f4", (vectors.shape[1],))])
        rows[HASH], rows[VECTOR] = hashes, vectors
        data = io.BytesIO()
        np.save(data, rows, allow_pickle=False)
        whole = data.getvalue()
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{hashlib.sha256(whole).hexdigest()}.npy"
        replace_file(self._folder / name, whole, scratch=self._folder / "making")

    def sources(self) -> Iterator[TextSource]:
        """The undamaged parts, memory-mapped."""
        for path in sorted(self._folder.glob("*.npy")):
            if path.stem == file_sum(path).sha256:
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
                yield TextSource(np.array(rows[HASH]), rows[VECTOR].view(np.ndarray))
