"""Histograms of durations whose buckets widen with the value, so that microseconds and seconds are equally precise.

The idea is that of HdrHistogram (hdrhistogram.org): a bucket is as wide as a fixed share of the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS_PER_DOUBLING = 32  # between a value and its double: the width of a bucket is about 2 % of its values
SMALLEST = 0.001  # smaller values count as this


def bucket_counts(values: Sequence[float]) -> dict[str, int]:
    """How many values (above 0) fall into each bucket, by the bucket's lower edge in four digits; in order of size.

    >>> bucket_counts([1.0, 1.001, 400.0])
    {'0.9806': 2, '395.6': 1}
    """
    doublings = np.log2(np.maximum(values, SMALLEST) / SMALLEST)
    buckets, counts = np.unique(np.floor(BUCKETS_PER_DOUBLING * doublings + 1e-9), return_counts=True)
    edges = SMALLEST * 2 ** (buckets / BUCKETS_PER_DOUBLING)
    return {f"{edge:.4g}": int(count) for edge, count in zip(edges, counts, strict=True)}


def values_in(counts: Mapping[str, int]) -> NDArray[np.float64]:
    """As many values as were counted, in order of size, spread evenly over each bucket: float64 [n].

    >>> values_in(bucket_counts([1.0, 1.001, 400.0])).round(2).tolist()
    [0.99, 1.0, 399.91]
    """
    buckets = sorted((float(edge), count) for edge, count in counts.items())
    spread = [edge * 2 ** ((np.arange(n) + 0.5) / n / BUCKETS_PER_DOUBLING) for edge, n in buckets]
    return np.concatenate([np.empty(0), *spread])
