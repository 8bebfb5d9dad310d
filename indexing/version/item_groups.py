"""Variants: the items of one product, as the column `group_id` names it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.topk import CSR, Hits, Mask, Rows

GROUP = "group_id"


@dataclass(frozen=True)
class ItemGroups:
    """The group of each row, int64 [size], and the rows of the groups that have a name, in their order.

    `codes` number those groups from 0; an item without a group is alone in one of a higher number.
    """

    codes: NDArray[np.int64]
    members: CSR

    @classmethod
    def of(cls, items: pa.Table, place: Rows | None = None) -> ItemGroups | None:
        """Those of items, where `place` int64 [size] locates each row in them; None where no item names a group."""
        if GROUP not in items.column_names:
            return None
        names = items[GROUP].cast(pa.string()).combine_chunks().dictionary_encode()
        named = names.indices.fill_null(-1).to_numpy().astype(np.int64)
        named = named if place is None else named[place]
        rows, n, kept = np.arange(len(named)), len(names.dictionary), named >= 0
        if not kept.any():
            return None
        return cls(np.where(kept, named, n + rows), CSR.grouped(named[kept], rows[kept], n))

    def variants(self, row: int) -> Rows:
        """The other rows of a row's group, int64."""
        code = int(self.codes[row])
        if code >= self.members.n_lists:
            return np.empty(0, np.int64)
        rows: Rows = self.members.rows[self.members.indptr[code] : self.members.indptr[code + 1]]
        return np.asarray(rows[rows != row], np.int64)

    def first_of_each(self, rows: Rows) -> Mask:
        """Which places of rankings, int64 [n, k] with -1 at a pad, are the first of their group, bool [n, k].

        >>> ItemGroups(np.array([0, 0, 3]), CSR.from_lists([[0, 1]])).first_of_each(np.array([[1, 2, 0, -1]])).tolist()
        [[True, True, False, False]]
        """
        lines, places = np.nonzero(rows >= 0)
        keys = lines * (int(self.codes.max(initial=0)) + 1) + self.codes[rows[lines, places]]
        first = np.zeros(rows.shape, np.bool_)
        kept = np.unique(keys, return_index=True)[1]  # the first of equal ones
        first[lines[kept], places[kept]] = True
        return first

    def with_variants(self, lists: CSR) -> CSR:
        """Lists of rows, each with all other rows of their groups."""
        rows, owners = [], []
        for owner, row in zip(lists.owners.tolist(), lists.rows.tolist(), strict=True):
            more = self.variants(row)
            rows.append(more)
            owners.append(np.full(len(more), owner))
        if not rows:
            return lists
        return CSR.concatenate([lists, CSR.grouped(np.concatenate(owners), np.concatenate(rows), lists.n_lists)])

    def collapsed(self, hits: Hits) -> Hits:
        """Rankings of groups: of each group its best place alone, as the first row of the group; no parts."""
        first = self.first_of_each(hits.rows)
        order = np.argsort(~first, axis=1, kind="stable")
        kept = np.take_along_axis(first, order, axis=1)
        rows = np.take_along_axis(hits.rows, order, axis=1)
        scores = np.take_along_axis(hits.scores, order, axis=1)
        return Hits(np.where(kept, self.representatives[rows], -1), np.where(kept, scores, np.float32(-np.inf)))

    @property
    def representatives(self) -> Rows:
        """The first row of each row's group, int64 [size]."""
        of_group = np.full(int(self.codes.max(initial=-1)) + 1, -1, np.int64)
        of_group[self.codes[::-1]] = np.arange(len(self.codes))[::-1]
        return of_group[self.codes]
