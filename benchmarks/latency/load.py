"""Load: callers who wait for each answer (closed loop), and arrivals that do not wait for anybody (open loop).

A closed loop stops asking while the engine stalls, and so leaves out of its figures all who would have come meanwhile:
coordinated omission (Tene, "How NOT to Measure Latency", 2013). In the open loop a request is due at its own time, and
its latency counts from then, the time it stood in line included.
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

from serving.request import Answer

Call: TypeAlias = Callable[[], Answer]
Seconds: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Time:
    """The clock in seconds and how to wait: the machine's own, or a test's."""

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


class Timed(NamedTuple):
    """One request: which, in milliseconds how long its caller waited, what the engine says of its stages, and whether a
    deadline cut any of them."""

    at: int
    milliseconds: float
    stages: dict[str, float]
    degraded: bool = False


class Load(NamedTuple):
    """What some callers or arrivals saw, in the order of the requests, and the seconds that it took in all."""

    timed: list[Timed]
    seconds: float

    @property
    def milliseconds(self) -> list[float]:
        """How long each caller waited."""
        return [one.milliseconds for one in self.timed]

    @property
    def degraded(self) -> float:
        """The share of requests of which a deadline cut something."""
        return sum(one.degraded for one in self.timed) / len(self.timed) if self.timed else 0.0

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return len(self.timed) / self.seconds if self.seconds else 0.0

    def stages(self) -> dict[str, list[float]]:
        """Milliseconds of each stage, and under `other` what no stage names, in the order of the requests."""
        names = dict.fromkeys(name for one in self.timed for name in one.stages)
        found = {name: [one.stages[name] for one in self.timed if name in one.stages] for name in names}
        return found | {"other": [max(0.0, one.milliseconds - sum(one.stages.values())) for one in self.timed]}


def closed_loop(
    calls: Sequence[Call], *, callers: int = 1, seconds: float = inf, at_least: int = 20, tools: Time | None = None
) -> Load:
    """Callers who each ask again once they have their answer, until all calls are made or the time is over.

    The calls are taken in their order, of which at least so many are made. Raises ValueError for no calls.
    """
    _some(calls)
    tools = tools or Time()
    begun, timed = tools.clock(), []

    def ask(at: int) -> None:
        asked = tools.clock()
        answer = calls[at]()
        timed.append(Timed(at, 1_000 * (tools.clock() - asked), answer.timings_ms, bool(answer.degraded)))

    _work(_until(len(calls), at_least, lambda: tools.clock() - begun >= seconds), ask, callers)
    return Load(sorted(timed), tools.clock() - begun)


def open_loop(calls: Sequence[Call], due: Seconds, *, workers: int = 1, tools: Time | None = None) -> Load:
    """Requests that come when they are `due` (seconds from now, rising, one a call), answered by some threads.

    Latency counts from when a request was due. Raises ValueError for no calls.
    """
    _some(calls)
    tools = tools or Time()
    begun, timed = tools.clock(), []

    def answer(at: int) -> None:
        arrival = begun + float(due[at])
        if (early := arrival - tools.clock()) > 0:
            tools.sleep(early)
        found = calls[at]()
        timed.append(Timed(at, 1_000 * (tools.clock() - arrival), found.timings_ms, bool(found.degraded)))

    _work(iter(range(len(due))), answer, workers)
    return Load(sorted(timed), tools.clock() - begun)


def arrivals(n: int, rate: float, rng: np.random.Generator | None = None) -> Seconds:
    """When n requests are due at `rate` a second: as strangers come (Poisson), or evenly without a generator.

    >>> arrivals(4, 2.0).tolist()
    [0.0, 0.5, 1.0, 1.5]
    """
    if rng is None:
        return np.arange(n) / rate
    return np.cumsum(rng.exponential(1 / rate, n))


class Trial(NamedTuple):
    """A rate that was tried, and the milliseconds of the percentile that is to stay under the bound."""

    rate: float
    milliseconds: float


def highest_rate(
    measure: Callable[[float], float], bound: float, start: float, *, least: float = 0.0, trials: int = 8
) -> tuple[float, list[Trial]]:
    """The highest rate a second that was seen to keep a percentile under `bound` ms, 0 where none was.

    From `start` the rate is doubled or halved until it fails or holds, then the gap is halved (of the ratio). None
    under `least` is tried.
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
    """Does the work at all places, some threads taking one after the other; its first error is raised."""
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


def _some(calls: Sequence[Call]) -> None:
    if not calls:
        raise ValueError("there are no calls to time")
