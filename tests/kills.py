"""Kills writers of a bundle at random moments of their work, while other processes query it all the while.

    python tests/kills.py BUNDLE DATA --kills 60

BUNDLE is written to. One JSON object is printed: how often what was killed, how many queries were answered from how
many states, and everything that went wrong: `wrong` is empty where nothing did. Jobs and queriers are forked from this
process, which has imported what they need and done nothing with it, so that a kill meets their work and not their
imports.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexing.bundle.bundle import Bundle
from retrieval.encoders.quiet import quiet_libraries
from retrieval.errors import ShortlistError
from serving.cli.app import app
from serving.engine import Engine

QUERIES = ("red mug", "steel drill", "garden lamp", "blue", "hair care", "large table")
QUERIERS = 4
PAUSE = 0.1  # seconds between two queries of a process
REOPEN_EVERY = 25  # queries; of every second querier, which opens the bundle anew
LONGEST = 600.0  # seconds of a job, after which it counts as hung
K = 8


class Jobs:
    """The command lines of `shortlist` that change a bundle, each time another change."""

    def __init__(self, bundle: Path, data: Path, scratch: Path, rng: random.Random) -> None:
        self.bundle, self.scratch, self.rng = bundle, scratch, rng
        self.items = pq.read_table(data / "items.parquet")
        self.data = scratch / "data"
        self.data.mkdir()
        for path in data.glob("*.parquet"):
            (self.data / path.name).symlink_to(path.resolve())
        self.made = 0

    def build(self) -> list[str]:
        """The catalogue with a few other titles."""
        path = self.data / "items.parquet"
        path.unlink()
        pq.write_table(self._changed(self.items), path)
        return ["index", "build", str(self.bundle), "--data", str(self.data)]

    def update(self) -> list[str]:
        """Some items with other titles, others deleted."""
        rows = self.rng.sample(range(self.items.num_rows), 12)
        upserts, gone = self.scratch / f"upserts-{self.made}.parquet", self.scratch / f"gone-{self.made}.txt"
        pq.write_table(self._changed(self.items.take(rows[:8])), upserts)
        gone.write_text("\n".join(self.items["item_id"].take(rows[8:]).to_pylist()))
        return ["index", "update", str(self.bundle), "--upsert", str(upserts), "--delete", str(gone)]

    def activate(self) -> list[str]:
        """Any release."""
        return ["release", "activate", str(self.bundle), self.rng.choice(Bundle.open(self.bundle).releases()).id]

    def prune(self) -> list[str]:
        """All but two or three releases."""
        return ["release", "prune", str(self.bundle), "--keep", str(self.rng.choice((2, 3)))]

    def _changed(self, items: pa.Table) -> pa.Table:
        self.made += 1
        some = pa.array([row % 9 == self.made % 9 for row in range(items.num_rows)])
        titles = pc.if_else(some, pc.binary_join_element_wise(items["title"], f"mark {self.made}", " "), items["title"])
        return items.set_column(items.column_names.index("title"), "title", titles)


def forked(work: Callable[[], int], log: Path) -> int:
    """Run work in a child of its own, what it prints in a file; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(arguments: list[str]) -> int:
    """Run `shortlist ...` here; returns its exit code."""
    try:
        app(arguments, prog_name="shortlist")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def ask(bundle: Path, heard: Path, stop: Path, *, reopening: bool, seed: int) -> int:
    """Query until the file `stop` is there; a line of JSON for each answer: release, update, query, items."""
    rng, engine, asked = random.Random(seed), Engine.open(bundle, device="cpu"), 0
    with heard.open("a", buffering=1) as file:
        while not stop.exists():
            asked += 1
            query = rng.choice(QUERIES)
            try:
                if reopening and asked % REOPEN_EVERY == 0:
                    engine = Engine.open(bundle, device="cpu")
                answer = engine.search(query, k=K, rerank=False)
                items = [hit.item_id for hit in answer.items]
                file.write(json.dumps([answer.release, answer.index_revision, query, items]) + "\n")
            except Exception:  # whatever it is, a query failed
                file.write(json.dumps({"failed": traceback.format_exc()}) + "\n")
            time.sleep(PAUSE)
    return 0


class Trial:
    """One bundle under fire."""

    def __init__(self, bundle: Path, data: Path, scratch: Path, seed: int) -> None:
        self.bundle, self.scratch = bundle, scratch
        self.rng = random.Random(seed)
        self.jobs = Jobs(bundle, data, scratch, self.rng)
        self.store = Bundle.open(bundle)
        self.log, self.stop = scratch / "log", scratch / "stop"
        self.heard = [scratch / f"heard-{number}" for number in range(QUERIERS)]
        self.killed, self.wrong = Counter[str](), list[str]()
        self.seconds: dict[str, float] = {}  # for which a job has the lock

    def run(self, kills: int) -> dict[str, object]:
        """So many kills, in turn of every job."""
        asking = [self._querier(number) for number in range(QUERIERS)]
        names = ("build", "update", "activate", "prune")
        for name in names:
            self._to_the_end(name, getattr(self.jobs, name)())
        while sum(self.killed.values()) < kills and len(self.wrong) < 10:
            name = names[sum(self.killed.values()) % len(names)]
            self._killed_and_again(name, getattr(self.jobs, name)())
        self.stop.touch()
        for process in asking:
            if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0:
                self.wrong.append(f"a querier ended: {self.log.read_text()[-2000:]}")
        return self._outcome()

    def _querier(self, number: int) -> int:
        heard = self.heard[number]
        process = forked(lambda: ask(self.bundle, heard, self.stop, reopening=number % 2 == 1, seed=number), self.log)
        while not heard.exists() or not heard.stat().st_size:
            time.sleep(0.05)
        return process

    def _killed_and_again(self, name: str, arguments: list[str]) -> None:
        """Kill a job at a random moment of its work, look at what it left, and run it again to its end."""
        process = forked(lambda: command(arguments), self.log)
        status = self._until_it_writes(process)
        if status is None:
            time.sleep(self.rng.uniform(0, self.seconds[name]))
            os.kill(process, signal.SIGKILL)
            status = os.waitpid(process, 0)[1]
        if os.WIFSIGNALED(status):
            self.killed[name] += 1
        self._look(f"{name}, {'killed' if os.WIFSIGNALED(status) else 'ended'}")
        self._to_the_end(name, arguments)

    def _to_the_end(self, name: str, arguments: list[str]) -> None:
        process = forked(lambda: command(arguments), self.log)
        begun, status = time.monotonic(), self._until_it_writes(process)
        if status is None:
            begun, status = time.monotonic(), os.waitpid(process, 0)[1]
        self.seconds[name] = time.monotonic() - begun
        if os.waitstatus_to_exitcode(status) != 0:
            self.wrong.append(f"{name} {arguments} ended with {status}: {self.log.read_text()[-1000:]}")
        self._look(f"{name}, to its end")
        left = [path.name for path in (self.bundle / ".staging").iterdir()]
        if left:
            self.wrong.append(f"{name} left {left} in .staging")

    def _until_it_writes(self, process: int) -> int | None:
        """Wait until a job has the lock; its status where it ended before."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            if self.store.writer() == process:
                return None
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        return os.waitpid(process, 0)[1]

    def _look(self, when: str) -> None:
        """Every recorded release has to be whole, the live one among them."""
        try:
            live = self.store.current().id
            for release in self.store.releases():
                verdict = self.store.verify(release.id)
                if not verdict.sound:
                    self.wrong.append(f"{when}: {release.id}{' (live)' * (release.id == live)}: {verdict.faults}")
        except ShortlistError as error:
            self.wrong.append(f"{when}: {error}")

    def _outcome(self) -> dict[str, object]:
        answers: dict[tuple[str, int, str], set[tuple[str, ...]]] = defaultdict(set)
        asked = 0
        for line in self._lines():
            asked += 1
            if isinstance(line, dict):
                self.wrong.append(line["failed"])
                continue
            release, update, query, items = line
            answers[release, update, query].add(tuple(items))
            if len(items) != K:
                self.wrong.append(f"{release} {update} {query}: {len(items)} items")
        mixed = [f"{key}: {sorted(found)}" for key, found in answers.items() if len(found) > 1]
        return {
            "kills": dict(self.killed),
            "queries": asked,
            "releases answered from": len({release for release, _, _ in answers}),
            "states answered from": len({(release, update) for release, update, _ in answers}),
            "states by two answers": len(mixed),
            "wrong": [*self.wrong, *mixed],
        }

    def _lines(self) -> Iterator[list[object] | dict[str, str]]:
        for heard in self.heard:
            yield from map(json.loads, heard.read_text().splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with quiet_libraries(), TemporaryDirectory() as scratch:
        outcome = Trial(options.bundle, options.data, Path(scratch), options.seed).run(options.kills)
    print(json.dumps(outcome, indent=1))
    return 1 if outcome["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
