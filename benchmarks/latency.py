"""Latency of embedded retrieval calls: one request at a time in a warm process, and the first answer of a fresh one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np

from serving.engine import Engine
from serving.requests import Answer

__all__ = ["Call", "Timing", "cold_starts", "machine", "time_calls", "workload"]

Call: TypeAlias = Callable[[], Answer]

FIRST_ANSWER = "import sys; from serving import Engine; Engine.open(sys.argv[1]).recommend(user_id=sys.argv[2])"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of `n` calls of one kind, warm-up calls not among them; `stages` are medians by stage."""

    n: int
    p50: float
    p95: float
    p99: float
    stages: Mapping[str, float]

    def as_json(self) -> dict[str, object]:
        """The fields by name, as JSON takes them."""
        return asdict(self)


def workload(engine: Engine, n: int, rng: np.random.Generator) -> dict[str, list[Call]]:
    """`n` calls of each kind over shoppers, items and past queries drawn from what the release holds.

    Without shoppers or past queries, the first words of titles are searched and nobody is recommended to.
    """
    known = engine.stages.version
    items: list[str] = known.ids_of(rng.integers(known.size, size=n))
    carts = [known.ids_of(rng.integers(known.size, size=2)) for _ in range(n)]
    users = _drawn(engine.shoppers.user_ids.to_pylist(), n, rng)
    texts = _drawn(engine.shoppers.query_texts, n, rng) or [" ".join(title.split()[:4]) for title in _titles(engine, n)]
    calls: dict[str, list[Call]] = {
        "recommend": [partial(engine.recommend, user_id=user) for user in users],
        "recommend, not reranked": [partial(engine.recommend, user_id=user, rerank=False) for user in users],
        "search": [partial(engine.search, text) for text in texts],
        "similar": [partial(engine.similar, item) for item in items],
        "cart": [partial(engine.complete_cart, cart) for cart in carts],
    }
    return {name: some for name, some in calls.items() if some}


def _drawn(values: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [values[row] for row in rng.integers(len(values), size=n)] if values else []


def _titles(engine: Engine, n: int) -> list[str]:
    titles: list[str] = engine.stages.version.items["title"].slice(0, n).to_pylist()
    return titles


def time_calls(calls: Sequence[Call], *, warm_up: int = 5, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Times `calls` one after another, after the first `warm_up` of them were made once unmeasured.

    `clock` gives seconds. Raises ValueError for no calls.
    """
    if not calls:
        raise ValueError("there are no calls to time")
    for call in calls[:warm_up]:
        call()
    spent, stages = [], []
    for call in calls:
        begun = clock()
        answer = call()
        spent.append(1_000 * (clock() - begun))
        stages.append(answer.milliseconds)
    p50, p95, p99 = (float(value) for value in np.percentile(spent, [50, 95, 99]))
    return Timing(n=len(calls), p50=p50, p95=p95, p99=p99, stages=dict(_medians(stages)))


def _medians(stages: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    for name in dict.fromkeys(name for one in stages for name in one):
        yield name, float(np.median([one[name] for one in stages if name in one]))


def cold_starts(bundle: Path, user_id: str, *, runs: int = 3) -> list[float]:
    """Seconds from the start of a new process, interpreter included, to the end of its first answer, `runs` times.

    Raises CalledProcessError where such a process fails.
    """
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_ANSWER, str(bundle), user_id], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return seconds


def machine() -> dict[str, str]:
    """What the figures were taken on: processor, cores, system, Python, the libraries that do the work, the commit."""
    libraries = {name: version(name) for name in ("shortlist", "numpy", "openvino")}
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        **libraries,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
