"""Latency of embedded retrieval calls: by stage, under load, and the first answer of a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.latency.load import Call, Load, Trial, arrivals, closed_loop, highest_rate, open_loop
from benchmarks.latency.workload import Asked, Deck
from benchmarks.result_lines import BEYOND, Line, percentiles, sampled
from benchmarks.sweep import Knobs
from serving.engine import Engine

WHOLE = "end to end"
ASKED_BEFORE = "asked before"  # a share of calls, in a summary
CALLERS = (1, 2, 4, 8, 16)
SHARES = (0.25, 0.5, 0.75, 0.9)  # of what callers who wait get answered, tried as fixed rates
WARM_UP = 5
FOR_P99 = 100 * BEYOND  # arrivals, for so many to lie beyond it
FIRST_ANSWER = (
    "import json, sys; from serving import Engine; bundle, device, asked = sys.argv[1:]; "
    "Engine.open(bundle, device=device).recommend(**json.loads(asked))"
)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long a figure may take, and what else is tried."""

    calls: int = 20_000  # of a kind at most: enough for ten beyond p99.9
    seconds: float = 10.0  # of a point at most
    at_least: int = 20  # calls of a point, however long they take
    trials: int = 8  # rates, in search of the highest
    longest: float = 120.0  # seconds of each of these, in which enough for p99 must come
    cold: int = 3  # fresh processes

    @classmethod
    def quick(cls) -> Effort:
        """Everything on the sample shop in less than a minute."""
        return cls(seconds=0.8, at_least=4, trials=3, longest=4.0, cold=1)


def workload(engine: Engine, n: int, rng: np.random.Generator, knobs: Knobs | None = None) -> dict[str, list[Call]]:
    """`n` calls of each kind over shoppers, items and past queries drawn from what the release holds.

    All that differ come before any comes again. Without past queries the first words of titles are searched; without
    shoppers nobody is recommended to.
    """
    differing = Asked.of(engine, n, rng).calls(engine, knobs or Knobs())
    return {name: list(islice(cycle(some), n)) for name, some in differing.items()}


def stage_lines(decks: Mapping[str, Deck], effort: Effort, labels: Mapping[str, str]) -> Iterator[Line]:
    """Every kind of call, one caller in a warm process: each stage, what no stage names, and the whole."""
    for call, deck in decks.items():
        for warm in deck.point(min(WARM_UP, effort.at_least)):
            warm()
        load = closed_loop(deck.point(effort.calls), seconds=effort.seconds, at_least=effort.at_least)
        told = _some({"degraded": load.degraded, ASKED_BEFORE: deck.asked_before})  # a cut answer looks quick
        for stage, values in {WHOLE: load.milliseconds, **load.stages()}.items():
            line = sampled("latency", {**labels, "call": call, "stage": stage}, "ms", values)
            yield replace(line, summary={**line.summary, **(told if stage == WHOLE else {})})


def load_lines(
    call: str, deck: Deck, effort: Effort, *, workers: int, bound: float, rng: np.random.Generator
) -> Iterator[Line]:
    """One kind of call under load: callers who wait, arrivals at fixed rates, and the highest rate under the bound."""
    answered = 0.0
    for callers in CALLERS:
        load = closed_loop(deck.point(effort.calls), callers=callers, seconds=effort.seconds, at_least=effort.at_least)
        yield _load(load, {"call": call, "load": "closed", "callers": str(callers)}, deck.asked_before)
        answered = max(answered, load.per_second)

    def asked(rate: float, at_least: int) -> Load:
        n = int(max(at_least, min(effort.calls, rate * effort.seconds)))
        return open_loop(deck.point(n), arrivals(n, rate, rng), workers=workers)

    for share in SHARES:
        rate = round(share * answered, 1)
        about = {"call": call, "load": "open", "share": f"{share:g}", "threads": str(workers)}
        yield _load(asked(rate, effort.at_least), about, deck.asked_before, rate)
    before: list[float] = []

    def waited(rate: float) -> list[float]:
        found = asked(rate, FOR_P99).milliseconds
        before.append(deck.asked_before)
        return found

    line = rate_line(waited, call, bound, answered, effort)
    yield replace(line, summary={**line.summary, **_some({ASKED_BEFORE: fmean(before or [0.0])})})


def rate_line(
    measure: Callable[[float], Sequence[float]], call: str, bound: float, answered: float, effort: Effort
) -> Line:
    """The highest rate of arrivals that keeps p99 under `bound` ms.

    `measure` gives the latencies in ms of FOR_P99 arrivals or more at a rate; `answered` a second is what callers who
    wait get. A rate at which so many do not come in the longest that may be measured is not tried; where none that is
    tried holds the summary's rate is None, and the label says what was not measurable.
    """
    least = FOR_P99 / effort.longest
    rate, tried = 0.0, list[Trial]()
    if answered >= least:
        start = max(answered / 2, least)
        rate, tried = highest_rate(
            lambda rate: percentiles(measure(rate))["p99"], bound, start, least=least, trials=effort.trials
        )
    percentile = "p99" if rate else f"p99, under {least:.3g} a second not measurable in {effort.longest:g} s"
    labels = {"call": call, "bound ms": f"{bound:g}", "percentile": percentile}
    summary = {"rate": rate or None, **{f"ms at {trial.rate:.1f}": trial.milliseconds for trial in tried}}
    return Line(measured="highest rate", labels=labels, unit="per second", summary=summary)


def cold_starts(bundle: Path, asked: Mapping[str, str], *, device: str = "auto", runs: int = 3) -> list[float]:
    """Seconds from the start of a new process, interpreter included, to the end of its first answer, `runs` times.

    `asked` as `Engine.recommend` takes it: a `user_id`, or a `query` to search for. Raises CalledProcessError where
    such a process fails.
    """
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        command = [sys.executable, "-c", FIRST_ANSWER, str(bundle), device, json.dumps(dict(asked))]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _load(load: Load, labels: Mapping[str, str], asked_before: float, rate: float | None = None) -> Line:
    line = sampled("load", labels, "ms", load.milliseconds)
    asked = {} if rate is None else {"asked per second": rate}
    told = {"answered per second": load.per_second, **asked, **_some({ASKED_BEFORE: asked_before})}
    return replace(line, summary={**line.summary, **told}, samples=())


def _some(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if share}
