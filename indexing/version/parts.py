"""What a job has embedded so far, in parts on the disk: a job that is killed goes on from the last of them.

A part is one .npy file of (hash of the text, vector) named by its own checksum, written beside, synced and renamed. So
a part that is torn, changed or not ours is told by its name, and passed over.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from indexing.bundle.atomic_files import replace_file
from indexing.bundle.manifest import file_sum
from indexing.version.embedding_cache import TextSource
from indexing.version.hash_index import Hashes
from retrieval.topk import Vectors

HASH, VECTOR = "hash", "vector"


class PartStore:
    """The parts of one text encoder in a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, hashes: Hashes, vectors: Vectors) -> None:
        """Keep vectors float32 [n, dim] of texts by their hashes uint64 [n, 2]; OSError where the disk refuses."""
        rows = np.empty(len(hashes), [(HASH, "<u8", (2,)), (VECTOR, "<f4", (vectors.shape[1],))])
        rows[HASH], rows[VECTOR] = hashes, vectors
        data = io.BytesIO()
        np.save(data, rows, allow_pickle=False)
        whole = data.getvalue()
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{hashlib.sha256(whole).hexdigest()}.npy"
        replace_file(self._folder / name, whole, scratch=self._folder / "making")

    def sources(self) -> Iterator[TextSource]:
        """The whole parts, memory-mapped."""
        for path in sorted(self._folder.glob("*.npy")):
            if path.stem == file_sum(path).sha256:
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
                yield TextSource(np.array(rows[HASH]), rows[VECTOR].view(np.ndarray))
