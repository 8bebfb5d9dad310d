"""Builds the index of a version: of a kind that is chosen or given, tuned to the wanted recall, and written."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from indexing.bundle.manifest import JsonMap
from indexing.tuning.filter_crossover import CrossoverMeter
from indexing.tuning.tuner import Chosen, Progress, Tuner
from retrieval.errors import BadConfig
from retrieval.topk import Vectors

RECALL_AT = 100
RECALL_TARGET = 0.95
RECALL_SAMPLE = 256  # queries that recall is measured with
AUTO = "auto"  # in place of a kind: the tuner chooses
TIMED_ENTRIES = ("choice", "filters")  # entries that hold timings, which differ from build to build: not part of a name


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
    """Build the index over vectors float32 [n, dim] and write it to `path`; returns its entries in the manifest.

    Exact search needs no file. `factory` is a FAISS factory string, or AUTO. `memory`: bytes that the index may hold,
    None for no limit; see `Tuner`. `queries` float32 [q, dim] are user vectors; without any, item vectors stand in. An
    index of a given kind is written even where it misses `recall_target`; the manifest records its recall. Raises
    BadConfig where a given kind holds more than `memory` or cannot be built, OSError where the disk refuses.
    """
    sample, source = recall_sample(vectors, queries, seed)
    k = min(RECALL_AT, len(vectors))
    tuner = Tuner(vectors=vectors, queries=sample, k=k, target=recall_target, memory=memory, seed=seed)
    report("index", 0, len(vectors))
    chosen = tuner.choose(report) if factory == AUTO else tuner.fit(factory)
    if factory != AUTO:
        _require_memory(chosen, memory)
    filters: JsonMap = {}
    params = chosen.point.params
    if chosen.index is not None:
        chosen.index.write(path)
        meter = CrossoverMeter(vectors=vectors, queries=sample, k=k, target=recall_target, seed=seed)
        crossover = meter.measure(chosen.index)
        filters, params = crossover.to_json(), replace(params, filtered=crossover.filtered)
    report("index", len(vectors), len(vectors))
    return {
        "dim": int(vectors.shape[1]),
        "factory": chosen.kind,
        "effort": asdict(params),
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
    """Query vectors float32 [q, dim] to measure recall with, and in words what they are."""
    rng = np.random.default_rng(seed)
    source, pool = ("item vectors", vectors) if queries is None else ("user vectors", queries)
    rows = np.sort(rng.choice(len(pool), min(RECALL_SAMPLE, len(pool)), replace=False))
    return np.ascontiguousarray(pool[rows], np.float32), f"{len(rows)} {source}"


def _require_memory(chosen: Chosen, memory: int | None) -> None:
    point = chosen.point
    if memory is not None and point.bytes > memory:
        raise BadConfig(
            f"index kind {point.kind!r} takes {decimal(point.bytes)}, and {decimal(memory)} is allowed; set "
            "index.factory to auto or to another kind, or raise index.memory"
        )
