"""A histogram of buckets that widen with the value, so that microseconds and seconds are told apart equally well.

As HdrHistogram (hdrhistogram.org) has it: every value is known to a fixed share of itself, whatever its size, and
histograms of several threads or runs add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PER_DOUBLING = 32  # buckets between a value and its double: each is known to about 2 %
LEAST = 0.001  # smaller values count as this


@dataclass(frozen=True)
class Histogram:
    """How many values fell into each bucket; bucket b holds those from `lower(b)` to `lower(b + 1)`."""

    counts: Mapping[int, int]

    @classmethod
    def of(cls, values: Sequence[float]) -> Histogram:
        """The histogram of some values, above 0."""
        at = np.floor(PER_DOUBLING * np.log2(np.maximum(values, LEAST) / LEAST) + 1e-9).astype(int)
        buckets, counts = np.unique(at, return_counts=True)
        return cls(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def __add__(self, other: Histogram) -> Histogram:
        buckets = sorted({*self.counts, *other.counts})
        return Histogram({at: self.counts.get(at, 0) + other.counts.get(at, 0) for at in buckets})

    @property
    def n(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float:
        """The middle of the bucket that holds a percentile; ValueError for an empty histogram.

        >>> round(Histogram.of([1.0, 2.0, 400.0]).percentile(50), 1)
        2.0
        """
        if not self.counts:
            raise ValueError("an empty histogram has no percentiles")
        wanted, below = max(1, np.ceil(self.n * percent / 100 - 1e-9)), 0
        for at in sorted(self.counts):
            below += self.counts[at]
            if below >= wanted:
                break
        return float(np.sqrt(lower(at) * lower(at + 1)))

    def as_json(self) -> dict[str, int]:
        """Counts by the lower edge of their bucket, to four places."""
        return {f"{lower(at):.4g}": self.counts[at] for at in sorted(self.counts)}


def lower(bucket: int) -> float:
    """Where a bucket begins."""
    return float(LEAST * 2 ** (bucket / PER_DOUBLING))
