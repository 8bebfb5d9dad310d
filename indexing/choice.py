"""Which index a version gets: built, its effort fitted to the recall that is wanted, and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import numpy as np

from indexing.faiss_index import Effort, FaissIndex
from indexing.manifest import Json, JsonMap
from indexing.tune import EXACT, Point, choose_factory, fit_effort
from retrieval.errors import GateRefused
from retrieval.topk import Vectors

RECALL_AT = 100
RECALL_TARGET = 0.95
RECALL_SAMPLE = 256  # queries on which recall is measured

Progress: TypeAlias = Callable[[str, int, int], None]


def write_index(
    path: Path,
    vectors: Vectors,
    *,
    factory: str,
    recall_target: float,
    memory: int | None,
    queries: Vectors | None,
    seed: int,
    report: Progress,
) -> JsonMap:
    """Build the index and write it, unless it is exact and needs no file; returns what the manifest says of it.

    `memory` is how many bytes a kind that `auto` takes may fill; none: as many as it likes.
    """
    sample, source = _sample(vectors, queries, seed)
    found: JsonMap = {"dim": int(vectors.shape[1]), "recall_at": RECALL_AT, "recall_queries": source}
    kind = choose_factory(len(vectors), vectors.shape[1], memory) if factory == "auto" else factory
    points: list[Point] = []
    if kind != EXACT:
        report("index", 0, len(vectors))
        index = FaissIndex.build(vectors, kind, seed=seed)
        points = fit_effort(index, vectors, sample, k=min(RECALL_AT, len(vectors)), target=recall_target)
        kind = _kind_that_reaches(kind, points[-1].recall, recall_target, chosen=factory == "auto")
    if kind != EXACT:
        index.write(path)
    report("index", len(vectors), len(vectors))
    taken = points[-1] if kind != EXACT else Point(Effort(), 1.0)
    curve: list[Json] = [{**asdict(point.effort), "recall": point.recall} for point in points]
    return found | {"factory": kind, "effort": asdict(taken.effort), "recall": taken.recall, "recall_curve": curve}


def _kind_that_reaches(kind: str, reached: float, target: float, *, chosen: bool) -> str:
    """The kind, if it reaches the target; else exact search for one `auto` chose, GateRefused for one asked for."""
    if reached >= target:
        return kind
    if chosen:
        return EXACT
    raise GateRefused(
        f"index kind {kind!r} reaches recall@{RECALL_AT} {reached:.3f} at its highest effort, {target} is wanted; "
        "use another kind, such as Flat or HNSW32_SQ8, or a lower target"
    )


def _sample(vectors: Vectors, queries: Vectors | None, seed: int) -> tuple[Vectors, str]:
    rng = np.random.default_rng(seed)
    source, pool = ("item vectors", vectors) if queries is None else ("user vectors", queries)
    rows = np.sort(rng.choice(len(pool), min(RECALL_SAMPLE, len(pool)), replace=False))
    return np.ascontiguousarray(pool[rows], np.float32), f"{len(rows)} {source}"
