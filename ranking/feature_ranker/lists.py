"""Labelled lists: what a feature ranker learns from, and nDCG within them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadData
from retrieval.metrics.ranking import by_score, ndcg_at
from retrieval.topk import CSR

DEPTH = 10  # places that nDCG counts
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 / the golden ratio: Fibonacci hashing


@dataclass(frozen=True)
class TrainingLists:
    """Lists of candidates with features and labels; list i is the pairs `indptr[i]:indptr[i + 1]`."""

    features: NDArray[np.float32]  # [n_pairs, n_features]  nan: missing
    base: NDArray[np.float32]  # [n_pairs]  the score of the order before, finite
    labels: NDArray[np.float32]  # [n_pairs]  above 0: wanted, by how much
    indptr: NDArray[np.int64]  # [n_lists + 1]
    names: tuple[str, ...]  # [n_features]  distinct names of the columns

    def __post_init__(self) -> None:
        """Raises BadData for parts that do not fit one another."""
        n_pairs = len(self.base)
        if self.features.shape != (n_pairs, len(self.names)) or self.labels.shape != (n_pairs,):
            raise BadData(
                f"features {self.features.shape}, base {self.base.shape} and labels {self.labels.shape} do not fit "
                f"{len(self.names)} names; give one row a pair and one column a name"
            )
        if len(set(self.names)) != len(self.names):
            raise BadData("two features have the same name; give each its own")
        if not len(self.indptr) or (self.indptr[[0, -1]] != (0, n_pairs)).any() or (self.sizes < 0).any():
            raise BadData(f"indptr does not divide {n_pairs} pairs into lists; it must rise from 0 to {n_pairs}")
        if not np.isfinite(self.base).all():
            raise BadData("the base score of a pair is not finite; leave such pairs out")

    @property
    def n_lists(self) -> int:
        """The number of lists, empty ones included."""
        return len(self.indptr) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of pairs of each list, int64 [n_lists]."""
        return np.diff(self.indptr)

    @property
    def owners(self) -> NDArray[np.int64]:
        """The list of each pair, int64 [n_pairs]."""
        return np.repeat(np.arange(self.n_lists), self.sizes)

    def select(self, lists: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> TrainingLists:
        """The lists at given positions, in that order, or of a mask bool [n_lists]."""
        chosen = np.asarray(lists)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        indptr = _indptr(self.sizes[chosen])
        return self._at(np.arange(indptr[-1]) + np.repeat(self.indptr[chosen] - indptr[:-1], np.diff(indptr)), indptr)

    def informative(self) -> TrainingLists:
        """The lists that hold both a wanted and an unwanted candidate; self where all do."""
        wanted = np.bincount(self.owners[self.labels > 0], minlength=self.n_lists)
        mixed = (wanted > 0) & (wanted < self.sizes)
        return self if mixed.all() else self.select(mixed)

    def with_columns(self, names: Sequence[str]) -> TrainingLists:
        """The same lists with the named columns alone, in the order given. Raises BadData for a name there is not."""
        if tuple(names) == self.names:
            return self
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise BadData(f"there is no feature named {unknown[0]}; the lists have {', '.join(self.names)}")
        return replace(self, features=self.features[:, [self.names.index(name) for name in names]], names=tuple(names))

    def canonical(self) -> TrainingLists:
        """The same lists, ordered by a hash of what they hold, and so are the pairs within each.

        A training that reads these gives the same ranker in whatever order lists and candidates came.
        """
        keys = self._pair_keys()
        of_list = np.zeros(self.n_lists, np.uint64)
        np.add.at(of_list, self.owners, keys)
        by_hash = np.argsort(of_list, kind="stable")
        rank = np.empty(self.n_lists, np.int64)
        rank[by_hash] = np.arange(self.n_lists)
        return self._at(np.lexsort((keys, rank[self.owners])), _indptr(self.sizes[by_hash]))

    def ndcg(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """nDCG@10 of each list ordered by `scores` float [n_pairs], float64 [n_lists]; nan without a wanted candidate.

        Labels are linear gains. Tied scores count at their expected value over random order.
        """
        rows, wanted = np.arange(len(self.base)), self.labels > 0
        hits = by_score(CSR(self.indptr, rows), np.asarray(scores, np.float32))
        targets = CSR(_indptr(np.bincount(self.owners[wanted], minlength=self.n_lists)), rows[wanted])
        return ndcg_at(hits, targets, DEPTH, grades=self.labels[wanted])

    @classmethod
    def join(cls, parts: Sequence[TrainingLists]) -> TrainingLists:
        """The lists of several parts, one after another; all have the names of the first, in any order."""
        same = [part.with_columns(parts[0].names) for part in parts]
        return cls(
            np.concatenate([part.features for part in same]),
            np.concatenate([part.base for part in same]),
            np.concatenate([part.labels for part in same]),
            _indptr(np.concatenate([part.sizes for part in same])),
            parts[0].names,
        )

    def _at(self, pairs: NDArray[np.int64], indptr: NDArray[np.int64]) -> TrainingLists:
        return TrainingLists(self.features[pairs], self.base[pairs], self.labels[pairs], indptr, self.names)

    def _pair_keys(self) -> NDArray[np.uint64]:
        """A hash of what each pair holds, uint64 [n_pairs]; the order of the columns does not matter."""
        keys = np.zeros(len(self.base), np.uint64)
        for name, column in zip(("", " label", *self.names), (self.base, self.labels, *self.features.T), strict=True):
            bits = np.ascontiguousarray(column, np.float32).view(np.uint32).astype(np.uint64)
            bits |= np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
            bits *= _MIX
            bits ^= bits >> np.uint64(29)
            keys += bits * _MIX
        return keys


def _indptr(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
