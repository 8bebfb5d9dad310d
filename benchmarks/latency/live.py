"""`shortlist bench live`: how soon a recorded event counts, and what recording beside requests costs them."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np

from benchmarks.latency.load import closed_loop
from benchmarks.latency.workload import Workload
from benchmarks.result_lines import Line, sampled
from benchmarks.sweep import EngineOptions
from serving.cli.show import say
from serving.internals import Engine, now, open_store, recorded_events

AT_ONCE = 20  # events of one call of record_many
EVENT = "view"
WARM = 50  # calls before anything is timed
Beside: TypeAlias = Literal["nothing", "a thread of this process", "another process"]
BESIDES: tuple[Beside, ...] = ("nothing", "a thread of this process", "another process")
NEXT = "from before record to the next answer"


@dataclass(frozen=True)
class LiveRun:
    """A bundle, and a store of events that is made for the measurement.

    rate: events a second. seconds: of each of `rounds` measurements of requests beside nothing, beside a thread that
    records, and beside a process that does, in turn. kind: of the requests. place: a folder for the store, or a
    redis:// URL; None: a temporary folder.
    """

    bundle: Path
    rate: float = 2_000.0
    seconds: float = 10.0
    rounds: int = 4
    shoppers: int = 1_000
    kind: str = "recommend, not reranked"
    device: str = "auto"
    seed: int = 0
    place: str | None = None

    def lines(self) -> Iterator[Line]:
        """How soon events count; latency beside recording; how many events were kept a second."""
        with TemporaryDirectory() as folder:
            place = self.place or str(Path(folder) / "events.sqlite")
            with Engine.open(self.bundle, device=self.device, events=place) as engine:
                yield from self._lines(engine, place)

    def _lines(self, engine: Engine, place: str) -> Iterator[Line]:
        rng = np.random.default_rng(self.seed)
        work = Workload.sample(engine, 2_000, rng)
        events = Events(work)
        calls = work.calls(engine, EngineOptions())[self.kind]
        closed_loop(calls[:WARM])
        say("-- the first event of new shoppers")
        first = [self._first(engine, work, at) for at in range(self.shoppers)]
        yield sampled("recorded event", {"until": NEXT}, "ms", first)
        waits: dict[Beside, list[float]] = {beside: [] for beside in BESIDES}
        kept: dict[Beside, list[float]] = {beside: [] for beside in BESIDES[1:]}
        for round_ in range(self.rounds):
            for beside in BESIDES:
                say(f"-- round {round_ + 1}, beside {beside}")
                with self._recording(beside, engine, place, events) as count:
                    begun, before = time.perf_counter(), count()
                    repeated = [calls[at] for at in rng.integers(len(calls), size=200_000)]
                    waits[beside] += closed_loop(repeated, seconds=self.seconds).milliseconds
                    if beside != "nothing":
                        kept[beside].append((count() - before) / (time.perf_counter() - begun))
        for beside, times in waits.items():
            yield sampled("latency while events are recorded", {"call": self.kind, "by": beside}, "ms", times)
        quiet = float(np.percentile(waits["nothing"], 99))
        for beside, rates in kept.items():
            yield sampled("events kept", {"by": beside}, "per second", rates)
            ratio = float(np.percentile(waits[beside], 99)) / quiet
            labels = {"call": self.kind, "by": beside}
            yield Line(
                measured="p99 against that beside nothing", labels=labels, unit="figure", summary={"ratio": ratio}
            )

    def _first(self, engine: Engine, work: Workload, at: int) -> float:
        """Milliseconds from before the first event of a new shopper is recorded until it is in an answer."""
        user, item = f"new shopper {at}", work.items[at % len(work.items)]
        begun = time.perf_counter()
        engine.record(user, item, EVENT)
        answer = engine.recommend(user_id=user)
        took = 1_000 * (time.perf_counter() - begun)
        left_out = answer.fallbacks + answer.degraded
        assert not left_out, f"the event of {user} is not in the answer: {left_out}"
        return took

    @contextmanager
    def _recording(self, beside: Beside, engine: Engine, place: str, events: Events) -> Iterator[Callable[[], int]]:
        """Records beside what is done meanwhile; gives how many events were kept so far."""
        if beside == "nothing":
            yield lambda: 0
            return
        context = multiprocessing.get_context("spawn")
        process = beside == "another process"
        stop, count = context.Event(), context.Value("q", 0)
        work = (events, self.rate, stop, count)
        writer = (
            context.Process(target=_record_elsewhere, args=(place, *work))
            if process
            else threading.Thread(target=_record, args=(engine.record_many, *work))
        )
        writer.start()
        while count.value == 0 and writer.is_alive():  # the process starts
            time.sleep(0.01)
        try:
            yield lambda: int(count.value)
        finally:
            stop.set()
            writer.join()


class Events:
    """Events of known shoppers and items, a tenth of them purchases."""

    def __init__(self, work: Workload) -> None:
        self._users, self._items = work.users, work.items

    def draw(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Some, as of now."""
        users, items = rng.integers(len(self._users), size=AT_ONCE), rng.integers(len(self._items), size=AT_ONCE)
        kinds = np.where(rng.random(AT_ONCE) < 0.1, "purchase", EVENT).tolist()
        return [
            {"user_id": self._users[user], "item_id": self._items[item], "event": kind}
            for user, item, kind in zip(users.tolist(), items.tolist(), kinds, strict=True)
        ]


def _record_elsewhere(place: str, events: Events, rate: float, stop: Any, count: Any) -> None:
    store = open_store(place)
    _record(lambda some: store.append(recorded_events(some, now())), events, rate, stop, count)
    store.close()


def _record(
    keep: Callable[[Sequence[dict[str, Any]]], int], events: Events, rate: float, stop: Any, count: Any
) -> None:
    """Records evenly, at a rate a second, until told to stop."""
    rng, begun, made = np.random.default_rng(), time.perf_counter(), 0
    while not stop.is_set():
        count.value += keep(events.draw(rng))
        made += AT_ONCE
        time.sleep(max(0.0, begun + made / rate - time.perf_counter()))
