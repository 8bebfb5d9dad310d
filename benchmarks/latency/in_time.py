"""`shortlist bench in-time`: many requests at once against one by one, batches that callers share or not, deadlines."""

from __future__ import annotations

import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.latency.load import Call, Load, arrivals, closed_loop, open_loop
from benchmarks.result_lines import Line, percentiles, sampled
from retrieval.encoders.runtime import available_cores
from serving.cli.show import say
from serving.internals import EVERY_GATE, Answer, Callers, Engine, sharing

PARTS = ("many", "shared", "deadlines")
CALLERS = 16
ROUNDS = 4  # in which sides of a comparison take turns
DEADLINES = (10.0, 25.0, 50.0)  # milliseconds
SHARES = (0.5, 0.9)  # of the highest rate that a closed loop reached
ALLOWED = 5.0  # milliseconds beyond a deadline
LEAST = 0.001  # milliseconds of a deadline that has passed
WIDE = 100  # items of an answer of many
COUNT = re.compile(r"\d+ of \d+")

Ask = Callable[[float | None], Answer]  # within so many milliseconds


@dataclass(frozen=True)
class InTimeRun:
    """A bundle, and how long each of its measurements takes. With `every_gate` the cross-encoder reranks whatever its
    gates say of it."""

    bundle: Path
    device: str = "auto"
    seconds: float = 10.0
    seed: int = 0
    every_gate: bool = False

    def lines(self, wanted: Sequence[str]) -> Iterator[Line]:
        """The lines of those of PARTS that are wanted."""
        if "many" in wanted:
            say("-- many at once")
            yield from self.many()
        if "shared" in wanted:
            say(f"-- {CALLERS} callers, with shared batches and without")
            yield from self.shared()
        if "deadlines" in wanted:
            say("-- deadlines")
            yield from self.deadlines()

    def many(self) -> Iterator[Line]:
        """Requests a second, one by one and all shoppers at once, and the memory that the second half of them adds;
        nothing in a shop without shoppers."""
        with closing(self.opened()) as engine:
            users = self._users(engine)
            if not users:
                return
            calls: list[Call] = [partial(engine.recommend, user_id=user, k=WIDE, rerank=False) for user in users]
            calls[0]()
            alone = closed_loop(calls, seconds=self.seconds)
            asked = partial(engine.recommend_many, k=WIDE, rerank=False)
            _drain(asked(users[: len(users) // 2]))
            before, begun = _megabytes(), time.perf_counter()
            _drain(asked(users))
            together = len(users) / (time.perf_counter() - begun)
        rates = {"n": float(len(users)), "one by one": alone.per_second, "many at once": together}
        summary = {**rates, "ratio": together / alone.per_second, "MB that the second half adds": _megabytes() - before}
        labels = {"call": "recommend, not reranked", "k": str(WIDE)}
        yield Line(measured="many at once", labels=labels, unit="per second", summary=summary)

    def shared(self) -> Iterator[Line]:
        """Each kind of call by many callers, who share batches and do not, in turn."""
        with closing(self.opened()) as on, closing(self.opened(share_batches=False)) as off:
            for kind in self.kinds(on):
                loads: dict[str, list[Load]] = {"shared": [], "own": []}
                for turn in range(ROUNDS):
                    for name, engine in (("shared", on), ("own", off)):
                        engine.state.query_vectors.forget()
                        calls: list[Call] = [partial(ask, None) for ask in self.asks(engine, kind, turn)]
                        part = self.seconds / ROUNDS
                        loads[name].append(closed_loop(calls, callers=CALLERS, seconds=part, at_least=2 * CALLERS))
                rates = {name: sum(len(load.timed) for load in some) / _spent(some) for name, some in loads.items()}
                for name, some in loads.items():
                    line = sampled(
                        "load",
                        {"call": kind, "load": "closed", "callers": str(CALLERS), "batches": name},
                        "ms",
                        [one for load in some for one in load.milliseconds],
                    )
                    ratio = {} if name == "own" else {"times the rate of own batches": rates["shared"] / rates["own"]}
                    yield replace(
                        line, summary={**line.summary, "answered per second": rates[name], **ratio}, samples=()
                    )

    def deadlines(self) -> Iterator[Line]:
        """Requests with deadlines that count from when they were due, at shares of the rate of a closed loop."""
        rng, workers = np.random.default_rng(self.seed), 2 * available_cores()
        with closing(self.opened()) as engine:
            for kind in self.kinds(engine):
                for deadline in DEADLINES:
                    asks = self.asks(engine, kind, 0)
                    warm: list[Call] = [partial(ask, deadline) for ask in asks]
                    capacity = closed_loop(warm, callers=workers, seconds=self.seconds / 2).per_second
                    for share in SHARES:
                        rate = share * capacity
                        n = max(20, int(rate * self.seconds))
                        yield _deadline_line(kind, asks, deadline, share, arrivals(n, rate, rng), workers)

    def opened(self, *, share_batches: bool = True) -> Engine:
        """An engine of the bundle's live release, which does not reload."""
        state = Engine.open(self.bundle, device=self.device, auto_reload=False, share_batches=False).state
        state, callers = replace(state, reranks=EVERY_GATE) if self.every_gate else state, Callers()
        return Engine(sharing(state, callers) if share_batches else state, callers=callers)

    def kinds(self, engine: Engine) -> tuple[str, ...]:
        """The kinds of calls that are timed: of a shop without shoppers searches alone."""
        return ("search", "recommend") if self._users(engine) else ("search",)

    def asks(self, engine: Engine, kind: str, turn: int) -> list[Ask]:
        """Requests of a kind in random order, other ones in each turn."""
        rng = np.random.default_rng(self.seed + turn)
        if kind == "recommend":
            users = self._users(engine)
            return [partial(_asked, partial(engine.recommend, user_id=users[at])) for at in rng.permutation(len(users))]
        version = engine.state.version
        titles = version.values_at("title", rng.permutation(version.size)).to_pylist()
        queries = dict.fromkeys(" ".join(str(title).split()[:3]) for title in titles)
        return [partial(_asked, partial(engine.search, query)) for query in queries if query]

    def _users(self, engine: Engine) -> list[str]:
        found: list[str] = engine.state.user_store.user_ids.to_pylist()
        return found


def _deadline_line(
    kind: str, asks: Sequence[Ask], deadline: float, share: float, due: np.ndarray, workers: int
) -> Line:
    """The latencies of requests that ask for an answer before their deadline, and what was left out of how many."""
    left_out = Counter[str]()
    begun = time.perf_counter()

    def call(at: int) -> Answer:
        waited = 1_000 * (time.perf_counter() - begun - float(due[at]))
        answer = asks[at % len(asks)](max(deadline - waited, LEAST))
        left_out.update(COUNT.sub("some", cut) for cut in answer.degraded)
        return answer

    load = open_loop([partial(call, at) for at in range(len(due))], due, workers=workers)
    kept = sum(one <= deadline + ALLOWED for one in load.milliseconds) / len(due)
    shares = {f"share {cut}": count / len(due) for cut, count in left_out.most_common()}
    labels = {"call": kind, "deadline ms": f"{deadline:g}", "share of capacity": f"{share:g}"}
    figures = {**percentiles(load.milliseconds), f"share within {ALLOWED:g} ms of it": kept, **shares}
    return Line(measured="deadline", labels=labels, unit="ms", summary=figures)


def _asked(call: Callable[..., Answer], deadline_ms: float | None) -> Answer:
    return call(deadline_ms=deadline_ms)


def _drain(batches: Iterator[object]) -> None:
    for _ in batches:
        pass


def _megabytes() -> float:
    """The most memory that this process has had, in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _spent(loads: Sequence[Load]) -> float:
    return sum(load.seconds for load in loads)
