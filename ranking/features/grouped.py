"""Statistics of events by (request, code), looked up for candidates: codes are items, categories, brands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Grouped:
    """Events of requests grouped by a code.

    `keys` int64 [g] ascending are request * span + code, `starts` int64 [g] where each group begins in `order`, int64
    [m], the positions of the events, which keep their order within a group.
    """

    keys: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]
    span: int

    @classmethod
    def of(cls, owners: NDArray[np.int64], codes: NDArray[np.int64], span: int) -> Grouped:
        """From the request of each event and its code, int64 [m]; `span` is above every code."""
        keys = owners * span + codes
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1) != 0) if len(ordered) else np.empty(0, np.int64)
        return cls(ordered[starts], starts, order, span)

    def sums(self, values: NDArray[np.generic]) -> Numbers:
        """The sum of each group, float64 [g], of values [m]."""
        if not len(self.starts):
            return np.empty(0)
        return np.add.reduceat(np.asarray(values, np.float64)[self.order], self.starts)

    def largest(self, values: NDArray[np.generic]) -> Numbers:
        """The largest value of each group, float64 [g], of values [m]."""
        if not len(self.starts):
            return np.empty(0)
        return np.maximum.reduceat(np.asarray(values, np.float64)[self.order], self.starts)

    def sizes(self) -> NDArray[np.int64]:
        """The number of events of each group, int64 [g]."""
        return np.diff(np.append(self.starts, len(self.order)))

    def find(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The group of each code of each request, int64 in the shape [n, ...] of `codes`; -1 for none or code -1."""
        if not len(self.keys):
            return np.full(codes.shape, -1)
        lines = np.arange(len(codes)).reshape(-1, *[1] * (codes.ndim - 1))
        wanted = lines * self.span + codes
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((codes >= 0) & (self.keys[at] == wanted), at, -1)


def at_groups(values: Numbers, groups: NDArray[np.int64], otherwise: float) -> Numbers:
    """The value of each group, float64 in the shape of `groups`; `otherwise` at -1."""
    return np.append(values, otherwise)[groups]
