"""Load generators: closed-loop callers wait for each answer, open-loop requests arrive at a given rate.

A closed loop sends nothing while the engine stalls, so the requests that would have waited are missing from its
figures: coordinated omission (Tene, "How NOT to Measure Latency", 2013). In the open loop every request has a scheduled
time, and its latency counts from then, queueing included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving.internals import Answer

Call: TypeAlias = Callable[[], Answer]
Seconds: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Clock:
    """A clock in seconds and how to wait: the machine's own, or a fake one in tests."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


class Timed(NamedTuple):
    """The timing of one request."""

    at: int  # position among the calls
    milliseconds: float  # that its caller waited
    stages: dict[str, float]  # milliseconds by stage, as the engine reports them
    degraded: bool = False  # whether the deadline cut a stage short


class Load(NamedTuple):
    """The timings of some requests in their order, and the seconds that all of them took together."""

    timed: list[Timed]
    seconds: float

    @property
    def milliseconds(self) -> list[float]:
        """How long the caller of each request waited."""
        return [one.milliseconds for one in self.timed]

    @property
    def degraded(self) -> float:
        """The share of requests that their deadline cut short."""
        return sum(one.degraded for one in self.timed) / len(self.timed) if self.timed else 0.0

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return len(self.timed) / self.seconds if self.seconds else 0.0

    def stages(self) -> dict[str, list[float]]:
        """Milliseconds of each stage in the order of the requests, and as `other` the rest of the time."""
        names = dict.fromkeys(name for one in self.timed for name in one.stages)
        found = {name: [one.stages[name] for one in self.timed if name in one.stages] for name in names}
        return found | {"other": [max(0.0, one.milliseconds - sum(one.stages.values())) for one in self.timed]}


def closed_loop(
    calls: Sequence[Call], *, callers: int = 1, seconds: float = inf, at_least: int = 20, clock: Clock | None = None
) -> Load:
    """Callers who each send their next call once they have an answer, until all calls are made or the time is over.

    Calls are made in their order, at least `at_least` of them. Raises ValueError without calls.
    """
    _require_calls(calls)
    clock = clock or Clock()
    begun, timed = clock.now(), []

    def ask(at: int) -> None:
        sent = clock.now()
        answer = calls[at]()
        timed.append(Timed(at, 1_000 * (clock.now() - sent), answer.timings_ms, bool(answer.degraded)))

    _work(_until(len(calls), at_least, lambda: clock.now() - begun >= seconds), ask, callers)
    return Load(sorted(timed), clock.now() - begun)


def open_loop(calls: Sequence[Call], due: Seconds, *, workers: int = 1, clock: Clock | None = None) -> Load:
    """Calls that are made when they are `due` (seconds from now, ascending, one for each call) by some threads.

    Latency counts from when a call was due. Raises ValueError without calls.
    """
    _require_calls(calls)
    clock = clock or Clock()
    begun, timed = clock.now(), []

    def answer(at: int) -> None:
        arrival = begun + float(due[at])
        if (early := arrival - clock.now()) > 0:
            clock.sleep(early)
        found = calls[at]()
        timed.append(Timed(at, 1_000 * (clock.now() - arrival), found.timings_ms, bool(found.degraded)))

    _work(iter(range(len(due))), answer, workers)
    return Load(sorted(timed), clock.now() - begun)


def arrivals(n: int, rate: float, rng: np.random.Generator | None = None) -> Seconds:
    """When n requests are due at `rate` a second: a Poisson process, or evenly spaced without a generator.

    >>> arrivals(4, 2.0).tolist()
    [0.0, 0.5, 1.0, 1.5]
    """
    if rng is None:
        return np.arange(n) / rate
    return np.cumsum(rng.exponential(1 / rate, n))


class Trial(NamedTuple):
    """A rate that was tried, and the latency percentile in milliseconds at that rate."""

    rate: float
    milliseconds: float


def highest_rate(
    measure: Callable[[float], float], bound: float, start: float, *, least: float = 0.0, trials: int = 8
) -> tuple[float, list[Trial]]:
    """The highest rate a second tried that keeps a latency percentile under `bound` ms, and all trials; 0 if none does.

    `measure` gives the percentile in ms at a rate. From `start` the rate is doubled while it holds or halved while it
    fails, then bisected (geometrically). No rate below `least` is tried.
    """
    made: list[Trial] = []
    holds, fails = 0.0, inf
    rate = start
    while len(made) < trials and fails > least and fails / max(holds, 1e-9) > 1.05:
        made.append(Trial(rate, measure(rate)))
        if made[-1].milliseconds <= bound:
            holds = rate
        else:
            fails = rate
        rate = 2 * holds if fails == inf else max(fails / 2, least) if not holds else (holds * fails) ** 0.5
    return holds, made


def _until(n: int, at_least: int, over: Callable[[], bool]) -> Iterator[int]:
    for at in range(n):
        if at >= at_least and over():
            return
        yield at


def _work(places: Iterator[int], work: Callable[[int], None], workers: int) -> None:
    """Does the work for all places in some threads; the first error is raised."""
    lock = threading.Lock()

    def take() -> None:
        while True:
            with lock:
                at = next(places, None)
            if at is None:
                return
            work(at)

    if workers == 1:
        take()
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(take) for _ in range(workers)]:
            done.result()


def _require_calls(calls: Sequence[Call]) -> None:
    if not calls:
        raise ValueError("there are no calls to time")
