"""Recall of an index against exact search, by score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexing.ann.protocols import VectorIndex
from retrieval.topk import Hits, Vectors

SAME_SCORE = 1e-5  # two inner products that differ by less count as equal


def recalls(index: VectorIndex, queries: Vectors, truth: Hits) -> NDArray[np.float64]:
    """Recall@k of each query float32 [n_queries, dim] searched in `index`, float64 [n_queries]; see `recalls_of`.

    `truth` are the exact k best hits of the same queries.
    """
    return recalls_of(index.search(queries, truth.rows.shape[1]), truth)


def recalls_of(hits: Hits, truth: Hits) -> NDArray[np.float64]:
    """Recall@k of each query's `hits` against the exact hits `truth` [n_queries, k], float64 [n_queries].

    A hit counts if its score reaches that of the last exact hit. Scores are compared, not rows, so that one of two
    equal vectors counts as well as the other. A query without any exact hit has recall 1.
    """
    counts = np.count_nonzero(truth.rows >= 0, axis=1)
    last = np.where(truth.rows >= 0, truth.scores, np.inf).min(axis=1, initial=np.inf)
    good = np.count_nonzero(hits.scores >= last[:, None] - SAME_SCORE, axis=1)
    shares: NDArray[np.float64] = np.where(counts > 0, np.minimum(good, counts) / np.maximum(counts, 1), 1.0)
    return shares
