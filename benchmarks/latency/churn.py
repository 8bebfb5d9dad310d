"""`shortlist bench churn`: an engine under load while releases, items, rules and events change all the time."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from math import inf
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.environment import held_memory, peak_memory
from benchmarks.latency.churn_checks import FAULTS, Activation, Checker, History
from benchmarks.latency.churn_load import Asked, asking, read_asked, seen
from benchmarks.latency.churn_writer import Plan, copied_bundle, write
from benchmarks.latency.live import AT_ONCE, Events
from benchmarks.latency.workload import Workload
from benchmarks.result_lines import Line, sampled
from benchmarks.sweep import EngineOptions
from serving.cli.show import say
from serving.internals import Engine

CALLERS = 4
WARM_SHARE = 1 / 6  # of the time, before anything changes
CHANGED = 400  # items that updates are about: of those that are answered, the most frequent
ALLOWED_GROWTH = 0.1  # share of the memory
TOLD = 5  # errors and warnings that are told in words
QUIET, CHURN = "nothing changes", "everything changes"
STALE = "is not what was written last, after a refresh"
DONE, FAULTY, MEMORY = "churn", "answers that are wrong", "memory"
ERRORS, WARNINGS = "errors of callers", "warnings in the log"


@dataclass(frozen=True)
class ChurnRun:
    """A bundle, which is copied, and how much is done to the copy within so many seconds.

    publishes: of releases, rollbacks and activations, in turn. updates: items that are changed, deleted or added.
    reloads: of the rules.
    """

    bundle: Path
    seconds: float = 180.0
    publishes: int = 20
    updates: int = 2_000
    events: int = 20_000
    reloads: int = 5
    device: str = "auto"
    seed: int = 0

    def lines(self) -> Iterator[Line]:
        """What was done and answered, the faults of answers, latency with and without changes, and memory."""
        with TemporaryDirectory() as scratch:
            folder = copied_bundle(self.bundle, Path(scratch) / "bundle").path
            with Engine.open(folder, device=self.device) as engine:
                yield from self._lines(engine, folder)

    def _lines(self, engine: Engine, folder: Path) -> Iterator[Line]:
        rng, first = np.random.default_rng(self.seed), engine.release
        ids = engine.state.version.ids_of(np.arange(engine.state.version.size))
        titles = dict(zip(ids, engine.titles(ids), strict=True))
        work, quiet, during = Workload.sample(engine, 2_000, rng), folder.parent / "quiet", folder.parent / "during"
        calls = [(kind, call) for kind, some in work.calls(engine, EngineOptions()).items() for call in some]
        calls = [calls[at] for at in rng.permutation(len(calls))]
        say(f"-- {CALLERS} callers, while {QUIET}")
        with asking(calls, quiet, CALLERS):
            time.sleep(self.seconds * WARM_SHARE)
        plan, before = self._plan(read_asked(quiet), ids), _memory()
        say(f"-- {CALLERS} callers, while {CHURN}")
        peak_memory()  # the most from here on
        with (
            logged() as warned,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
            asking(calls, during, CALLERS),
        ):
            written = pool.submit(write, folder, plan)
            kept = self._record(engine, Events(work), rng)
            history = written.result()
        engine.refresh()
        last = seen("", 0.0, 0.0, engine.recommend())
        memory = {"after warm-up": before, "at the end": _memory(), **peak_memory()}
        history.activations.insert(0, Activation(-inf, -inf, first.id, first.index))
        asked = read_asked(during)
        for text in [*warned, *(error for one in asked for error in one.errors)][:TOLD]:
            say(f"note: {text}")
        yield from self._done(history, kept, asked, len(warned))
        yield from checked(history, titles, asked, stale=(last.release, last.revision, last.rules) != history.last())
        for name, some in ((QUIET, read_asked(quiet)), (CHURN, asked)):
            yield from latency_lines(name, some)
        yield memory_line(memory)

    def _plan(self, asked: Sequence[Asked], ids: Sequence[str]) -> Plan:
        """Changes and blocks the items that are answered most, so that an answer that mixes states shows it."""
        often = Counter(item for one in asked for answer in one.answers for item, _ in answer.shown)
        known = list(dict.fromkeys([*(item for item, _ in often.most_common()), *ids]))
        blocked, changed = known[: self.reloads], known[self.reloads : self.reloads + CHANGED]
        return Plan(self.seconds, self.publishes, self.updates, self.reloads, changed, blocked)

    def _record(self, engine: Engine, events: Events, rng: np.random.Generator) -> int:
        """Records the events evenly over the time; returns how many were kept."""
        begun, kept = time.monotonic(), 0
        for made in range(0, self.events, AT_ONCE):
            time.sleep(max(0.0, begun + self.seconds * made / self.events - time.monotonic()))
            kept += engine.record_many(events.draw(rng)[: self.events - made])
        return kept

    def _done(self, history: History, kept: int, asked: Sequence[Asked], warned: int) -> Iterator[Line]:
        done = {
            "publishes, rollbacks and activations": len(history.activations) - 1,
            "items updated": self.updates,
            "revisions of an index": len(history.revisions),
            "events kept": kept,
            "rules written": len(history.rules),
            "answers": sum(len(one.answers) for one in asked),
            "releases that answered": len({answer.release for one in asked for answer in one.answers}),
            ERRORS: sum(len(one.errors) for one in asked),
            WARNINGS: warned,
        }
        for what, n in done.items():
            yield Line(measured=DONE, labels={"what": what}, unit="figure", summary={"n": float(n)})


def checked(history: History, titles: Mapping[str, str], asked: Sequence[Asked], *, stale: bool) -> Iterator[Line]:
    """How many answers have each fault, and for how long releases answered that were live no more."""
    checker, counts, behind = Checker(history, titles), Counter[str](), list[float]()
    for one in asked:
        for answer, faults in checker.in_turn(one.answers):
            counts.update(faults)
            behind.append(checker.seconds_behind(answer))
    counts[STALE] = int(stale)
    for fault in (*FAULTS, STALE):
        yield Line(measured=FAULTY, labels={"it": fault}, unit="figure", summary={"n": float(counts[fault])})
    if behind:
        line = sampled("live no more", {"of": "the release that answered"}, "s", behind)
        yield replace(line, summary={**line.summary, "most": max(behind)}, samples=())


def latency_lines(name: str, asked: Sequence[Asked]) -> Iterator[Line]:
    """The latency of each kind of call."""
    waits: dict[str, list[float]] = defaultdict(list)
    for one in asked:
        for answer in one.answers:
            waits[answer.kind].append(1_000 * (answer.ended - answer.begun))
    for kind in sorted(waits):
        yield replace(sampled("latency", {"call": kind, "while": name}, "ms", waits[kind]), samples=())


def memory_line(memory: Mapping[str, float]) -> Line:
    """The memory of the process that answers, and its growth as a share."""
    growth = memory["at the end"] / memory["after warm-up"] - 1 if memory["after warm-up"] else 0.0
    return Line(measured=MEMORY, labels={"of": "the process"}, unit="MB", summary={**memory, "growth": growth})


def failures(lines: Sequence[Line]) -> list[str]:
    """What must not be of a run, in words; empty where all is well."""
    found = [
        f"{line.summary['n']:,.0f} {what}"
        for line in lines
        if (what := line.labels.get("what", "")) in (ERRORS, WARNINGS) and line.summary["n"]
    ]
    found += [
        f"{n:,.0f} answers: {line.labels['it']}"
        for line in lines
        if line.measured == FAULTY and (n := line.summary["n"])
    ]
    grown = max((line.summary["growth"] or 0.0 for line in lines if line.measured == MEMORY), default=0.0)
    return [*found, f"memory grew by {grown:.0%}"] if grown > ALLOWED_GROWTH else found


@contextmanager
def logged() -> Iterator[list[str]]:
    """The warnings that are logged within the context, known at its end."""
    queue, found, root = SimpleQueue[logging.LogRecord](), list[str](), logging.getLogger("serving")
    handler = QueueHandler(queue)
    handler.setLevel(logging.WARNING)
    root.addHandler(handler)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        while not queue.empty():
            found.append(queue.get().getMessage())


def _memory() -> float:
    """What the process holds now, 10^6 bytes; 0 where the system does not say."""
    gc.collect()
    return held_memory() or 0.0
