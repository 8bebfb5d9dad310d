"""Finds the row of an id or a text by hash, without a dictionary of all strings in memory.

Sorted hashes of the keys and the row of each stand in for the dictionary. They are memory-mapped, so that opening a
million ids costs nothing and a lookup touches a few pages. Ids are compared in full after a hash matched; texts are
identified by 128 bits of hash alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.topk import CSR, Rows, ranges

Hashes = NDArray[np.uint64]


def hash_keys(keys: Iterable[str]) -> Hashes:
    """The BLAKE2b hash of each key, 128 bits: uint64 [n, 2].

    >>> hash_keys(["a", "b"]).shape
    (2, 2)
    """
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys)
    return np.frombuffer(digests, "<u8").reshape(-1, 2).astype(np.uint64)


@dataclass(frozen=True)
class HashIndex:
    """Rows by hash: `first` uint64 [n], the sorted first halves; `rows` int64 [n], their rows; `hashes` uint64 [n, 2],
    the whole hashes by row."""

    first: Hashes
    rows: Rows
    hashes: Hashes

    @classmethod
    def build(cls, hashes: Hashes) -> HashIndex:
        """Build an index of hashes uint64 [n, 2]; of equal hashes the lowest row is found."""
        rows = np.argsort(hashes[:, 0], kind="stable").astype(np.int64)
        return cls(hashes[rows, 0], rows, hashes)

    def find(self, wanted: Hashes) -> Rows:
        """The row of each wanted hash uint64 [m, 2], int64 [m]; -1 where there is none."""
        if not len(self.first):
            return np.full(len(wanted), -1, np.int64)
        place = np.searchsorted(self.first, wanted[:, 0])
        found = np.full(len(wanted), -1, np.int64)
        open_ = np.arange(len(wanted))
        while len(open_):  # runs once, except for keys that share the first half of their hash
            open_ = open_[place[open_] < len(self.first)]
            open_ = open_[self.first[place[open_]] == wanted[open_, 0]]
            rows = self.rows[place[open_]]
            equal = self.hashes[rows, 1] == wanted[open_, 1]
            found[open_[equal]] = rows[equal]
            open_ = open_[~equal]
            place[open_] += 1
        return found

    def find_all(self, wanted: Hashes) -> CSR:
        """All rows of each wanted hash uint64 [m, 2], ascending; equal ones where it was built with such."""
        begin = np.searchsorted(self.first, wanted[:, 0])
        end = np.searchsorted(self.first, wanted[:, 0], side="right")
        owner, place = ranges(begin, end)
        rows = self.rows[place]
        equal = self.hashes[rows, 1] == wanted[owner, 1]
        return CSR.grouped(owner[equal], rows[equal], len(wanted))


def rows_of(ids: Sequence[str], index: HashIndex, column: pa.ChunkedArray) -> Rows:
    """The row of each id in a string column, int64 [len(ids)], -1 where there is none."""
    found = index.find(hash_keys(ids))
    known = np.flatnonzero(found >= 0)
    names = column.take(pa.array(found[known])).to_pylist()
    for place, name in zip(known.tolist(), names, strict=True):
        if name != ids[place]:
            found[place] = -1
    return found
