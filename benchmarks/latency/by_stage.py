"""Latency of an engine's calls: by stage, under load, and the first answer of a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.latency.load import Load, Trial, arrivals, closed_loop, highest_rate, open_loop
from benchmarks.latency.workload import CallPool
from benchmarks.result_lines import SAMPLES_BEYOND, Line, percentiles, sampled

WHOLE = "end to end"
REPEATED = "repeated calls"  # the share of calls that had been made before, in a summary
CALLERS = (1, 2, 4, 8, 16)
SHARES = (0.25, 0.5, 0.75, 0.9)  # of the highest throughput of the closed loop, as rates of the open one
WARM_UP = 5
FOR_P99 = 100 * SAMPLES_BEYOND  # arrivals, so that as many as a percentile needs lie beyond p99
FIRST_ANSWER = (
    "import json, sys; from serving import Engine; bundle, device, request = sys.argv[1:]; "
    "Engine.open(bundle, device=device).recommend(**json.loads(request))"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many calls are timed, and for how long."""

    calls: int = 20_000  # of a kind at most: enough for ten beyond p99.9
    seconds: float = 10.0  # of a measurement at most
    at_least: int = 20  # calls of a measurement, however long they take
    trials: int = 8  # rates tried in the search for the highest
    longest: float = 120.0  # seconds of a trial: a rate at which FOR_P99 arrivals take longer is not tried
    cold: int = 3  # fresh processes

    @classmethod
    def quick(cls) -> Limits:
        """Few calls: everything on the sample shop in less than a minute."""
        return cls(seconds=0.8, at_least=4, trials=3, longest=4.0, cold=1)


def stage_lines(pools: Mapping[str, CallPool], limits: Limits, labels: Mapping[str, str]) -> Iterator[Line]:
    """One caller in a warm process: the milliseconds of every kind of call, as a whole and by stage."""
    for call, pool in pools.items():
        for warm in pool.take(min(WARM_UP, limits.at_least)):
            warm()
        load = closed_loop(pool.take(limits.calls), seconds=limits.seconds, at_least=limits.at_least)
        shares = _nonzero({"degraded": load.degraded, REPEATED: pool.repeated_share})
        for stage, values in {WHOLE: load.milliseconds, **load.stages()}.items():
            line = sampled("latency", {**labels, "call": call, "stage": stage}, "ms", values)
            yield replace(line, summary={**line.summary, **(shares if stage == WHOLE else {})})


def load_lines(
    call: str, pool: CallPool, limits: Limits, *, workers: int, bound: float, rng: np.random.Generator
) -> Iterator[Line]:
    """One kind of call under load: closed loop, open loop at fixed rates, and the highest rate under the bound."""
    throughput = 0.0
    for callers in CALLERS:
        load = closed_loop(pool.take(limits.calls), callers=callers, seconds=limits.seconds, at_least=limits.at_least)
        yield _load_line(load, {"call": call, "load": "closed", "callers": str(callers)}, pool.repeated_share)
        throughput = max(throughput, load.per_second)

    def load_at(rate: float, at_least: int) -> Load:
        n = int(max(at_least, min(limits.calls, rate * limits.seconds)))
        return open_loop(pool.take(n), arrivals(n, rate, rng), workers=workers)

    for share in SHARES:
        rate = round(share * throughput, 1)
        about = {"call": call, "load": "open", "share": f"{share:g}", "threads": str(workers)}
        yield _load_line(load_at(rate, limits.at_least), about, pool.repeated_share, rate)
    repeated: list[float] = []

    def latencies(rate: float) -> list[float]:
        found = load_at(rate, FOR_P99).milliseconds
        repeated.append(pool.repeated_share)
        return found

    line = rate_line(latencies, call, bound, throughput, limits)
    yield replace(line, summary={**line.summary, **_nonzero({REPEATED: fmean(repeated or [0.0])})})


def rate_line(
    measure: Callable[[float], Sequence[float]], call: str, bound: float, throughput: float, limits: Limits
) -> Line:
    """The highest rate of arrivals that keeps p99 under `bound` ms.

    `measure` gives the latencies in ms of at least FOR_P99 arrivals at a rate; `throughput` is the closed loop's, a
    second. Rates at which that many arrivals take more than `limits.longest` seconds are not tried; where no rate tried
    keeps the bound, the summary's rate is None and the label says which rates could not be measured.
    """
    least = FOR_P99 / limits.longest
    rate, tried = 0.0, list[Trial]()
    if throughput >= least:
        start = max(throughput / 2, least)
        rate, tried = highest_rate(
            lambda rate: percentiles(measure(rate))["p99"], bound, start, least=least, trials=limits.trials
        )
    percentile = "p99" if rate else f"p99, under {least:.3g} a second not measurable in {limits.longest:g} s"
    labels = {"call": call, "bound ms": f"{bound:g}", "percentile": percentile}
    summary = {"rate": rate or None, **{f"ms at {trial.rate:.1f}": trial.milliseconds for trial in tried}}
    return Line(measured="highest rate", labels=labels, unit="per second", summary=summary)


def cold_starts(bundle: Path, request: Mapping[str, str], *, device: str = "auto", runs: int = 3) -> list[float]:
    """Seconds from the start of a new process, interpreter included, to the end of its first answer, `runs` times.

    `request` has arguments of `Engine.recommend`: a `user_id`, or a `query` to search for. Raises CalledProcessError
    where such a process fails.
    """
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        command = [sys.executable, "-c", FIRST_ANSWER, str(bundle), device, json.dumps(dict(request))]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _load_line(load: Load, labels: Mapping[str, str], repeated_share: float, rate: float | None = None) -> Line:
    line = sampled("load", labels, "ms", load.milliseconds)
    asked = {} if rate is None else {"asked per second": rate}
    rates = {"answered per second": load.per_second, **asked, **_nonzero({REPEATED: repeated_share})}
    return replace(line, summary={**line.summary, **rates}, samples=())


def _nonzero(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if share}
