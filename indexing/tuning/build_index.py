"""Which index a version gets: chosen or asked for, built, fitted to the recall that is wanted, and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich.filesize import decimal

from indexing.bundle.manifest import JsonMap
from indexing.tuning.filter_crossover import CrossoverMeter
from indexing.tuning.tuner import Chosen, Tuner
from retrieval.errors import BadConfig
from retrieval.topk import Vectors

RECALL_AT = 100
RECALL_TARGET = 0.95
RECALL_SAMPLE = 256  # queries on which recall is measured
AUTO = "auto"  # in place of a kind: the one that measuring finds
MEASURED = ("choice", "filters")  # of what `write_index` says: no two builds measure the same, and it names no contents

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

    `memory`: bytes that the index may hold, None for no limit; see `Tuner`. `queries` float32 [q, dim] are user
    vectors; without any, item vectors stand for them. A kind that was asked for may miss the recall, which is told; it
    is written all the same. Raises BadConfig where it holds more than the memory.
    """
    sample, source = recall_sample(vectors, queries, seed)
    k = min(RECALL_AT, len(vectors))
    tuner = Tuner(vectors=vectors, queries=sample, k=k, target=recall_target, memory=memory, seed=seed)
    report("index", 0, len(vectors))
    chosen = tuner.choose(report) if factory == AUTO else tuner.fit(factory)
    if factory != AUTO:
        _require_memory(chosen, memory)
    filters: JsonMap = {}
    effort = chosen.point.effort
    if chosen.index is not None:
        chosen.index.write(path)
        meter = CrossoverMeter(vectors=vectors, queries=sample, k=k, target=recall_target, seed=seed)
        crossover = meter.measure(chosen.index)
        filters, effort = crossover.to_json(), replace(effort, filtered=crossover.filtered)
    report("index", len(vectors), len(vectors))
    return {
        "dim": int(vectors.shape[1]),
        "factory": chosen.kind,
        "effort": asdict(effort),
        "recall": chosen.point.recall,
        "recall_at": RECALL_AT,
        "recall_queries": source,
        "bytes": chosen.point.bytes,
        "choice": {
            "why": chosen.why,
            "target": recall_target,
            "memory": memory,
            "curve": [point.to_json() for point in chosen.curve],
        },
        "filters": filters,
    }


def recall_sample(vectors: Vectors, queries: Vectors | None, seed: int) -> tuple[Vectors, str]:
    """Vectors float32 [q, dim] to measure recall with, and what they are."""
    rng = np.random.default_rng(seed)
    source, pool = ("item vectors", vectors) if queries is None else ("user vectors", queries)
    rows = np.sort(rng.choice(len(pool), min(RECALL_SAMPLE, len(pool)), replace=False))
    return np.ascontiguousarray(pool[rows], np.float32), f"{len(rows)} {source}"


def _require_memory(chosen: Chosen, memory: int | None) -> None:
    point = chosen.point
    if memory is not None and point.bytes > memory:
        raise BadConfig(
            f"index kind {point.kind!r} holds {decimal(point.bytes)}, {decimal(memory)} is allowed; use another kind, "
            "such as auto, or more memory"
        )
