"""The updates of an index version, held in memory beside it; nothing of the version is copied.

An item keeps its row for good. An update of a known item replaces the data of its row, and the row's entry in the
version's index is dead; a new item gets the next row; a deleted item keeps its row, which histories can still read, and
is not returned by a search until it is added again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from indexing.ann.protocols import VectorIndex
from indexing.version.hash_index import Hashes
from indexing.version.segments import Segment
from retrieval.topk import CSR, Hits, Mask, Rows, Vectors, exact_topk, merge_hits

SURPLUS, SURPLUS_FACTOR = 16, 3.0  # extra hits fetched: a number, plus this times the dead rows expected among k


@dataclass(frozen=True)
class Delta:
    """All updates of a version of `n_base` items, up to number `number`.

    `items`, `readings`, `text_vectors` and `text_hashes` are those of all updates, concatenated: d rows. `place` int64
    [size] locates the data of each row: below n_base in the version, else at place - n_base of these. `deleted` bool
    [size]. `new` maps the ids of items that the version does not have to their rows. `sha256` is that of the last
    update's manifest, which the next update names.
    """

    n_base: int
    number: int
    sha256: str
    items: pa.Table
    readings: Vectors
    text_vectors: Vectors
    text_hashes: Hashes
    place: Rows
    deleted: Mask
    new: Mapping[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def empty(cls, items: pa.Table, readings: Vectors, text_vectors: Vectors) -> Delta:
        """The delta of a version without updates; the arguments are the version's."""
        n = items.num_rows
        hashes = np.empty((0, 2), np.uint64)
        return cls(
            n, 0, "", items.slice(0, 0), np.array(readings[:0]), np.array(text_vectors[:0]), hashes,
            np.arange(n), np.zeros(n, np.bool_),
        )  # fmt: skip

    @property
    def size(self) -> int:
        """The number of rows, with those of deleted items."""
        return len(self.place)

    def with_segment(self, segment: Segment, upserted: Rows, deleted: Rows) -> Delta:
        """With one more update: `upserted` int64 are the rows of its items, -1 for new ones, and `deleted` int64 those
        of its deleted ids, -1 for unknown ones."""
        place, gone, new = self.place, self.deleted, dict(self.new)
        items, changed = [self.items], self
        if (upserts := segment.upserts) is not None:
            fresh = np.flatnonzero(upserted < 0)
            rows = upserted.copy()
            rows[fresh] = self.size + np.arange(len(fresh))
            ids = upserts.items["item_id"].take(pa.array(fresh)).to_pylist()
            new |= dict(zip(ids, rows[fresh].tolist(), strict=True))
            place = np.concatenate([place, np.zeros(len(fresh), np.int64)])
            gone = np.concatenate([gone, np.zeros(len(fresh), np.bool_)])
            place[rows] = self.n_base + len(self.readings) + np.arange(len(rows))
            gone[rows] = False
            items.append(upserts.items)
            changed = replace(
                self,
                readings=np.concatenate([self.readings, upserts.readings]),
                text_vectors=np.concatenate([self.text_vectors, upserts.text_vectors]),
                text_hashes=np.concatenate([self.text_hashes, upserts.text_hashes]),
            )
        gone = gone.copy()
        gone[deleted[deleted >= 0]] = True
        return replace(
            changed,
            number=segment.number,
            sha256=segment.sha256,
            items=pa.concat_tables(items),
            place=place,
            deleted=gone,
            new=new,
        )

    def rows_now(self) -> Rows:
        """The row of each of `items`, int64 [d]; -1 where a later update replaced it."""
        late = np.flatnonzero(self.place >= self.n_base)
        rows = np.full(len(self.readings), -1, np.int64)
        rows[self.place[late] - self.n_base] = late
        return rows

    def vectors_at(self, base: Vectors, rows: Rows) -> Vectors:
        """The vectors of rows, float32 [len(rows), width]: from `base` float32 [n_base, width] of the version, or the
        first `width` dimensions of the updates' readings."""
        at = self.place[rows]
        late = at >= self.n_base
        found = np.asarray(base[np.where(late, 0, at)])
        found[late] = self.readings[at[late] - self.n_base, : base.shape[1]]
        return found

    def search(
        self, index: VectorIndex, queries: Vectors, k: int, allowed: Mask | None = None, exclude: CSR | None = None
    ) -> Hits:
        """See VectorIndex: hits of the version's index without its dead rows, merged with an exact search of updated
        items.

        `allowed` is bool [size].
        """
        below = None if exclude is None else exclude.where(exclude.rows < self.n_base)
        hits = self._search_base(index, queries, k, allowed, below)
        if not len(self._live):
            return hits
        own = None if exclude is None else self._among_live(exclude)
        mask = None if allowed is None else allowed[self._live]
        late = exact_topk(queries, self._live_readings[:, : index.dim], k, allowed=mask, exclude=own)
        return merge_hits(hits, Hits(np.append(self._live, -1)[late.rows], late.scores), k)

    def _search_base(
        self, index: VectorIndex, queries: Vectors, k: int, allowed: Mask | None, exclude: CSR | None
    ) -> Hits:
        if allowed is not None:
            return index.search(queries, k, allowed=allowed[: self.n_base] & ~self._dead, exclude=exclude)
        n_dead = self._n_dead
        if not n_dead:
            return index.search(queries, k, exclude=exclude)
        surplus = SURPLUS + math.ceil(SURPLUS_FACTOR * k * n_dead / self.n_base)
        found = index.search(queries, k + min(n_dead, surplus), exclude=exclude)
        hits = self._without_dead(found, k)
        short = np.count_nonzero(hits.rows >= 0, axis=1) < min(k, self.n_base - n_dead)
        cut = found.rows[:, -1] >= 0  # otherwise the index has no further hits
        if (again := short & cut).any():
            own = None if exclude is None else exclude.select(again)
            hits.put(again, index.search(queries[again], k, allowed=~self._dead, exclude=own))
        return hits

    def _without_dead(self, found: Hits, k: int) -> Hits:
        alive = (found.rows >= 0) & ~self._dead[found.rows]
        order = np.argsort(~alive, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(alive, order, 1)
        rows, scores = np.take_along_axis(found.rows, order, 1), np.take_along_axis(found.scores, order, 1)
        return Hits(np.where(kept, rows, -1), np.where(kept, scores, np.float32(-np.inf)))

    def _among_live(self, lists: CSR) -> CSR:
        """Lists of rows as lists of positions in `_live`; rows that are not in it are dropped."""
        at = np.searchsorted(self._live, lists.rows)
        kept = np.append(self._live, -1)[at] == lists.rows
        return CSR(lists.indptr, at).where(kept)

    @cached_property
    def _dead(self) -> Mask:
        """Rows that the version's index must not return, bool [n_base]: deleted or replaced."""
        return self.deleted[: self.n_base] | (self.place[: self.n_base] >= self.n_base)

    @cached_property
    def _n_dead(self) -> int:
        return int(np.count_nonzero(self._dead))

    @cached_property
    def _live(self) -> Rows:
        """The rows of updated and new items that are not deleted, ascending."""
        return np.flatnonzero((self.place >= self.n_base) & ~self.deleted)

    @cached_property
    def _live_readings(self) -> Vectors:
        return self.readings[self.place[self._live] - self.n_base]
