"""Fingerprints: short hashes that identify artefacts and what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits of the SHA-256 of `parts`, equal for equal JSON values in any order of keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def array_sha256(array: NDArray[np.generic]) -> str:
    """The SHA-256 of an array's bytes in C order, hexadecimal; the shape is not part of it.

    >>> array_sha256(np.array([1, 2])) == array_sha256(np.array([[1, 2]]))
    True
    """
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """`file_sha256`, cached within the process for as long as the file's size and times do not change."""
    state = path.stat()
    return _sha256_as_of(path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=4_096)
def _sha256_as_of(path: Path, *state: int) -> str:
    return file_sha256(path)


def folder_fingerprint(
    folder: Path,
    *,
    patterns: Iterable[str] = ("*.safetensors", "*.json", "*.txt", "*.model"),
    leave_out: str | None = None,
) -> str:
    """The fingerprint of the model files under `folder`: their relative names and contents, nothing else.

    Files named `leave_out` are skipped.
    """
    files = sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})
    files = [path for path in files if path.name != leave_out]
    return fingerprint([(path.relative_to(folder).as_posix(), remembered_sha256(path)) for path in files])
