"""Latency of embedded retrieval calls: by stage, under load, and the first answer of a fresh process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import Call, Load, Trial, arrivals, closed_loop, highest_rate, open_loop
from benchmarks.results import Line, percentiles, sampled
from benchmarks.sweep import Knobs
from serving.engine import Engine

WHOLE = "end to end"
CALLERS = (1, 2, 4, 8, 16)
SHARES = (0.25, 0.5, 0.75, 0.9)  # of what callers who wait get answered, tried as fixed rates
WARM_UP = 5
FIRST_ANSWER = "import sys; from serving import Engine; Engine.open(sys.argv[1]).recommend(user_id=sys.argv[2])"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long a figure may take, and what else is tried."""

    calls: int = 20_000  # of a kind at most: enough for ten beyond p99.9
    seconds: float = 10.0  # of a point at most
    at_least: int = 20  # calls of a point, however long they take
    trials: int = 8  # rates, in search of the highest
    cold: int = 3  # fresh processes

    @classmethod
    def quick(cls) -> Effort:
        """Everything on the sample shop in less than a minute."""
        return cls(seconds=0.8, at_least=4, trials=3, cold=1)


def workload(engine: Engine, n: int, rng: np.random.Generator, knobs: Knobs | None = None) -> dict[str, list[Call]]:
    """`n` calls of each kind over shoppers, items and past queries drawn from what the release holds.

    Without shoppers or past queries, the first words of titles are searched and nobody is recommended to.
    """
    knobs = knobs or Knobs()
    asked: dict[str, Any] = {"k": knobs.k, "filters": knobs.filters}
    reranked = {**asked, "rerank": knobs.rerank, "deadline": knobs.deadline}
    known = engine.stages.version
    items: list[str] = known.ids_of(rng.integers(known.size, size=n))
    carts = [known.ids_of(rng.integers(known.size, size=2)) for _ in range(n)]
    users = _drawn(engine.shoppers.user_ids.to_pylist(), n, rng)
    texts = _drawn(engine.shoppers.query_texts, n, rng) or [" ".join(title.split()[:4]) for title in _titles(engine, n)]
    calls: dict[str, list[Call]] = {
        "recommend": [partial(engine.recommend, user_id=user, **reranked) for user in users],
        "recommend, not reranked": [partial(engine.recommend, user_id=user, rerank=False, **asked) for user in users],
        "search": [partial(engine.search, text, **reranked) for text in texts],
        "similar": [partial(engine.similar, item, **asked) for item in items],
        "cart": [partial(engine.complete_cart, cart, deadline=knobs.deadline, **asked) for cart in carts],
    }
    return {name: some for name, some in calls.items() if some}


def stage_lines(calls: Mapping[str, Sequence[Call]], effort: Effort, labels: Mapping[str, str]) -> Iterator[Line]:
    """Every kind of call, one caller in a warm process: each stage, what no stage names, and the whole."""
    for call, some in calls.items():
        for warm in some[: min(WARM_UP, effort.at_least)]:
            warm()
        load = closed_loop(some, seconds=effort.seconds, at_least=effort.at_least)
        for stage, values in {WHOLE: load.milliseconds, **load.stages()}.items():
            line = sampled("latency", {**labels, "call": call, "stage": stage}, "ms", values)
            cut = {"degraded": load.degraded} if stage == WHOLE and load.degraded else {}  # or quick would look good
            yield replace(line, summary={**line.summary, **cut})


def load_lines(
    call: str, calls: Sequence[Call], effort: Effort, *, workers: int, bound: float, rng: np.random.Generator
) -> Iterator[Line]:
    """One kind of call under load: callers who wait, arrivals at fixed rates, and the highest rate under the bound."""
    answered = 0.0
    for callers in CALLERS:
        load = closed_loop(calls, callers=callers, seconds=effort.seconds, at_least=effort.at_least)
        yield from _load(load, {"call": call, "load": "closed", "callers": str(callers)})
        answered = max(answered, load.per_second)
    asked = partial(_at_rate, calls, effort, workers, rng)
    for share in SHARES:
        rate = round(share * answered, 1)
        about = {"call": call, "load": "open", "share": f"{share:g}", "threads": str(workers)}
        yield from _load(asked(rate), about, rate)
    yield rate_line(lambda rate: asked(rate).milliseconds, call, bound, answered / 2, effort)


def rate_line(
    measure: Callable[[float], Sequence[float]], call: str, bound: float, start: float, effort: Effort
) -> Line:
    """The highest rate of arrivals that keeps p99 under `bound` ms, or the highest percentile that there are calls for.

    `measure` gives the latencies in ms at a rate.
    """
    read: list[str] = []

    def percentile(rate: float) -> float:
        found = percentiles(measure(rate))
        read.append(next(name for name in ("p99", "p90", "p50") if name in found))
        return found[read[-1]]

    rate, tried = highest_rate(percentile, bound, start, trials=effort.trials)
    held = next((name for trial, name in zip(tried, read, strict=True) if trial.rate == rate), read[-1])
    labels = {"call": call, "bound ms": f"{bound:g}", "percentile": held}
    return Line(measured="highest rate", labels=labels, unit="per second", summary={"rate": rate, **_trials(tried)})


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


def _at_rate(calls: Sequence[Call], effort: Effort, workers: int, rng: np.random.Generator, rate: float) -> Load:
    n = int(min(len(calls), max(effort.at_least, rate * effort.seconds)))
    return open_loop(calls[:n], arrivals(n, rate, rng), workers=workers)


def _load(load: Load, labels: Mapping[str, str], rate: float | None = None) -> Iterator[Line]:
    line = sampled("load", labels, "ms", load.milliseconds)
    answered = {"answered per second": load.per_second, "asked per second": rate}
    summary = {**line.summary, **{name: value for name, value in answered.items() if value is not None}}
    yield Line(measured="load", labels=labels, unit="ms", summary=summary, histogram=line.histogram)


def _trials(tried: Sequence[Trial]) -> dict[str, float]:
    return {f"ms at {trial.rate:.1f}": trial.milliseconds for trial in tried}


def _drawn(values: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [values[row] for row in rng.integers(len(values), size=n)] if values else []


def _titles(engine: Engine, n: int) -> list[str]:
    version = engine.stages.version
    titles: list[str] = version.values_at("title", np.arange(min(n, version.size))).to_pylist()
    return titles
