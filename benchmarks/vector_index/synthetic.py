"""Generated vectors that are distributed like those of a shop's titles, in any number: to benchmark an index alone.

Uniform noise has no neighbours, which is unfair to every approximate index; a few round clusters are too easy for all
of them. The vectors here have the statistics of 12,101 beauty products read by all-MiniLM-L6-v2: the length of their
mean (.57), the cosine of the nearest, the tenth, the hundredth and the median neighbour (.87, .72, .61, .33) and how
variance falls over directions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Vectors

TOPIC, KIND = 1_500, 60  # items of a topic, and of a kind within it, on average
SHARES = (0.33, 0.27, 0.22, 0.18)  # of an item's squared length: common to all, its topic, its kind, its own
FALL = 0.75  # the variance of direction i is (i + 2) to the power of minus this
BLOCK = 65_536  # items generated at a time
NEAR = 0.87  # the cosine of an item and the one most like it
POOL = 4_096  # random items among which those near a user are looked for


def item_vectors(n: int, dim: int, rng: np.random.Generator) -> Vectors:
    """Unit vectors float32 [n, dim] of n items in kinds, and kinds in topics, of unequal sizes."""
    spread = _spread(dim, rng)
    common = _directions(1, spread, rng)[0]
    topics = _directions(max(1, n // TOPIC), spread, rng)
    kinds = _directions(max(1, n // KIND), spread, rng)
    topic_of = rng.integers(len(topics), size=len(kinds))
    weights = rng.gamma(1.0, size=len(kinds))
    kind_of = rng.choice(len(kinds), size=n, p=weights / weights.sum())
    made = np.empty((n, dim), np.float32)
    for start in range(0, n, BLOCK):
        kind = kind_of[start : start + BLOCK]
        parts = (common, topics[topic_of[kind]], kinds[kind], _directions(len(kind), spread, rng))
        made[start : start + BLOCK] = sum(np.sqrt(share) * part for share, part in zip(SHARES, parts, strict=True))
    return _unit(made)


def more_like(items: Vectors, n: int, rng: np.random.Generator) -> Vectors:
    """Unit vectors float32 [n, dim], each an item moved along the difference of two others, to a cosine of NEAR with
    it: a catalogue that grows denser with similar items."""
    made = np.empty((n, items.shape[1]), np.float32)
    for start in range(0, n, BLOCK):
        block = made[start : start + BLOCK]
        one, other, third = (items[rng.integers(len(items), size=len(block))] for _ in range(3))
        aside = other - third
        aside -= (aside * one).sum(axis=1, keepdims=True) * one
        length = np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-9)
        block[:] = NEAR * one + (1 - NEAR**2) ** 0.5 * aside / length
    return _unit(made)


def user_vectors(items: Vectors, n: int, rng: np.random.Generator, *, neighbours: int = 3) -> Vectors:
    """Unit vectors float32 [n, dim] of users, each a mixture of one item, some near it, and another one."""
    first = rng.integers(len(items), size=n)
    near = _near(items, items[first], neighbours, rng)
    others = items[rng.integers(len(items), size=n)]
    return _unit(items[first] + near + 0.5 * others)


def _near(items: Vectors, vectors: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """The mean of the `count` items nearest to each vector, among POOL random ones."""
    pool = items[rng.choice(len(items), min(len(items), POOL), replace=False)]
    best = np.argpartition(-(vectors @ pool.T), count, axis=1)[:, :count]
    mean: Vectors = pool[best].mean(axis=1)
    return mean


def _spread(dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A matrix [dim, dim] that gives random numbers the variances of the directions, rotated at random."""
    deviation = (np.arange(dim) + 2.0) ** (-FALL / 2)
    rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    spread: NDArray[np.float32] = (deviation[:, None] * rotation).astype(np.float32)
    return spread


def _directions(n: int, spread: NDArray[np.float32], rng: np.random.Generator) -> Vectors:
    return _unit(rng.standard_normal((n, len(spread)), np.float32) @ spread)


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
