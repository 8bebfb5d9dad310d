"""Which kind of index a catalogue needs, and how hard it must search to find what exact search finds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from indexing.faiss_index import Effort, FaissIndex
from indexing.guarded import GuardedIndex
from indexing.index import VectorIndex
from indexing.sizes import size_of
from retrieval.errors import BadConfig
from retrieval.topk import Hits, Vectors, exact_topk

EXACT = "Flat"
SCAN_BYTES = 100_000_000  # vectors up to this size are scanned: 4 ms at the 26 GB/s of one core
GRAPH_ROWS = 2_000_000  # above, a graph takes minutes to build and cells are used
GRAPH, GRAPH_BYTES = "HNSW32_SQ8", 280  # links of one vector
CELL_BYTES = 8  # the id of one vector
MAX_DOUBLINGS = 4
CLOSE = 1e-5  # two inner products that differ by less are the same


class Point(NamedTuple):
    """One point of the curve of recall over effort."""

    effort: Effort
    recall: float


def choose_factory(n: int, dim: int, memory: int | None = None) -> str:
    """The kind of index for n vectors of dim dimensions, the next smaller one where it fills more than `memory` bytes.

    Measured over 200,000 sentence embeddings of 384 dimensions, one query at a time: exact search takes 11.7 ms;
    HNSW32_SQ8 at efSearch 256 takes 0.7 ms for recall@100 .965; IVF1024,SQ8 at nprobe 128 takes 0.94 ms for .949 and
    builds three times as fast.

    >>> choose_factory(50_000, 384), choose_factory(300_000, 384), choose_factory(5_000_000, 384)
    ('Flat', 'HNSW32_SQ8', 'IVF8192,SQ8')
    >>> choose_factory(50_000, 384, memory=50_000_000)
    'HNSW32_SQ8'

    Raises BadConfig where none is so small.
    """
    cells = f"IVF{2 ** round(math.log2(4 * math.sqrt(n)))},SQ8"
    sizes = {EXACT: 4 * dim, GRAPH: dim + GRAPH_BYTES, cells: dim + CELL_BYTES}  # of one vector
    preferred = 0 if n * dim * 4 <= SCAN_BYTES else 1 if n <= GRAPH_ROWS else 2
    for kind, size in list(sizes.items())[preferred:]:
        if memory is None or n * size <= memory:
            return kind
    raise BadConfig(
        f"no kind of index for {n:,} vectors of {dim} numbers fits in {size_of(memory or 0)}: the smallest takes "
        f"{size_of(n * sizes[cells])}; give it more memory"
    )


def recall(index: VectorIndex, queries: Vectors, truth: Hits) -> float:
    """The share of the true hits' places that the index fills with a score as good as the last true one.

    By score and not by row, so that one of two equal vectors counts as well as the other. 1 where there is no hit.
    """
    k = truth.rows.shape[1]
    found = index.search(queries, k).scores
    counts = np.count_nonzero(truth.rows >= 0, axis=1)
    last = np.where(truth.rows >= 0, truth.scores, np.inf).min(axis=1, initial=np.inf)
    good = np.count_nonzero(found >= last[:, None] - CLOSE, axis=1)
    return float(np.minimum(good, counts).sum() / max(1, counts.sum()))


def fit_effort(index: FaissIndex, vectors: Vectors, queries: Vectors, *, k: int, target: float) -> list[Point]:
    """Double the effort until recall@k reaches the target, four times at most; the last point is the one to take."""
    truth = exact_topk(queries, vectors, k)
    points: list[Point] = []
    effort = index.effort
    while len(points) <= MAX_DOUBLINGS:
        points.append(Point(effort, recall(GuardedIndex(index.with_effort(effort), vectors), queries, truth)))
        if points[-1].recall >= target:
            break
        effort = effort.widened(2)
    return points
