"""`shortlist bench http`: what the server adds to the engine, and how it stands a load while its bundle changes."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks.latency.churn_writer import Plan, copied_bundle, write
from benchmarks.latency.live import Events
from benchmarks.latency.load import Call, Load, arrivals, closed_loop, open_loop
from benchmarks.latency.workload import Workload
from benchmarks.result_lines import Line, percentiles, sampled
from benchmarks.sweep import EngineOptions
from retrieval.errors import BadConfig
from serving.cli.show import say
from serving.internals import Engine

CALLERS = 16
ROUNDS = 4  # in which sides of a comparison take turns
SHARE = 0.8  # of the highest rate that a closed loop reached
EVENTS = 200.0  # a second
EVENTS_AT_ONCE = 20
OPEN_CALLERS = 32
START = 60.0  # seconds within which a server has to be ready
COMMAND = "from serving.cli.app import app; app()"
KINDS = ("recommend, not reranked", "recommend", "search")


class Reply(NamedTuple):
    """What a request over HTTP gives: its status, and of an answer what a Timed reads."""

    status: int
    timings_ms: dict[str, float]
    degraded: Sequence[str]
    release: str = ""


@dataclass(frozen=True)
class HttpRun:
    """A bundle, which is copied, how long each measurement takes, and for how long a steady load changes it."""

    bundle: Path
    seconds: float = 10.0
    steady_seconds: float = 180.0
    workers: int = 1
    device: str = "auto"
    seed: int = 0

    def lines(self) -> Iterator[Line]:
        """Latency and throughput over HTTP beside those of an engine in this process; then the steady load."""
        rng = np.random.default_rng(self.seed)
        with TemporaryDirectory() as scratch:
            folder = copied_bundle(self.bundle, Path(scratch) / "bundle").path
            with Engine.open(folder, device=self.device) as engine:
                work = Workload.sample(engine, 2_000, rng)
                with self._served(folder) as client:
                    yield from self._compared(engine, work, client, rng)
            if self.steady_seconds:
                with self._served(folder) as client:
                    yield from self._steady(folder, work, client, rng)

    @contextmanager
    def _served(self, folder: Path) -> Iterator[Callers]:
        with (
            served(folder, workers=self.workers, device=self.device) as port,
            closing(Callers(port)) as client,
        ):
            yield client

    def _compared(self, engine: Engine, work: Workload, client: Callers, rng: np.random.Generator) -> Iterator[Line]:
        embedded, asked = work.calls(engine, EngineOptions()), bodies(work)
        for kind in (kind for kind in KINDS if kind in asked):
            say(f"-- {kind}: one caller, and {CALLERS}")
            remote: list[Any] = [partial(client.ask, *one) for one in asked[kind]]
            for callers in (1, CALLERS):
                loads: dict[str, list[Load]] = {"embedded": [], "http": []}
                for _ in range(ROUNDS):
                    order = rng.permutation(len(remote))
                    for side, calls in (("embedded", embedded[kind]), ("http", remote)):
                        engine.state.query_vectors.forget()
                        drawn: list[Call] = [calls[at] for at in order]
                        loads[side].append(
                            closed_loop(drawn, callers=callers, seconds=self.seconds / ROUNDS, at_least=callers)
                        )
                yield from _beside(kind, callers, loads)

    def _steady(self, folder: Path, work: Workload, client: Callers, rng: np.random.Generator) -> Iterator[Line]:
        """An open loop at SHARE of the capacity, with events and releases."""
        asked = [one for some in bodies(work).values() for one in some]
        calls: list[Any] = [partial(client.ask, *asked[at]) for at in rng.permutation(len(asked))]
        capacity = closed_loop(calls, callers=CALLERS, seconds=self.seconds, at_least=CALLERS).per_second
        rate = SHARE * capacity
        say(f"-- {rate:.0f} requests a second, {SHARE:.0%} of the capacity, for {self.steady_seconds:.0f} s")
        n = max(20, int(rate * self.steady_seconds))
        plan, stop = Plan(self.steady_seconds, 3, 0, 0, (), ()), threading.Event()
        replies: list[Reply] = []

        def call(at: int) -> Reply:
            replies.append(calls[at % len(calls)]())
            return replies[-1]

        with ThreadPoolExecutor(2) as beside:
            written = beside.submit(write, folder, plan)
            kept = beside.submit(client.record, Events(work), stop)
            due: list[Any] = [partial(call, at) for at in range(n)]
            load = open_loop(due, arrivals(n, rate, rng), workers=OPEN_CALLERS)
            stop.set()
            history, events = written.result(), kept.result()
        statuses = Counter(f"{reply.status // 100}xx" for reply in replies)
        summary: dict[str, float | None] = {
            **percentiles(load.milliseconds),
            "requests per second": rate,
            "events kept per second": events / load.seconds,
            "releases and rollbacks": float(len(history.activations)),
            "releases that answered": float(len({reply.release for reply in replies if reply.release})),
            "share degraded": load.degraded,
            **{f"answers {status}": float(count) for status, count in sorted(statuses.items())},
        }
        yield Line(measured="steady load over HTTP", labels={"call": "all"}, unit="ms", summary=summary)


def _beside(kind: str, callers: int, loads: Mapping[str, Sequence[Load]]) -> Iterator[Line]:
    """Both sides of a comparison: latency, rate, and what HTTP adds."""
    waits = {side: [one for load in some for one in load.milliseconds] for side, some in loads.items()}
    rates = {side: len(waits[side]) / sum(load.seconds for load in some) for side, some in loads.items()}
    for side, values in waits.items():
        line = sampled("over http", {"call": kind, "callers": str(callers), "by": side}, "ms", values)
        more = {"answered per second": rates[side]}
        if side == "http":
            more |= {
                "p50 more than embedded": float(np.median(values) - np.median(waits["embedded"])),
                "times the rate of embedded": rates["http"] / rates["embedded"],
            }
        yield replace(line, summary={**line.summary, **more}, samples=())


def bodies(work: Workload) -> dict[str, list[tuple[str, bytes]]]:
    """The calls of a workload as paths and bodies, in its order."""
    found: dict[str, list[tuple[str, dict[str, object]]]] = {
        "recommend, not reranked": [("/v1/recommend", {"user_id": user, "rerank": False}) for user in work.users],
        "recommend": [("/v1/recommend", {"user_id": user}) for user in work.users],
        "search": [("/v1/search", {"query": query}) for query in work.queries],
    }
    return {kind: [(path, json.dumps(body).encode()) for path, body in some] for kind, some in found.items() if some}


class Callers:
    """Asks a server, each thread over a connection of its own that it keeps until all are closed."""

    def __init__(self, port: int) -> None:
        self._port, self._own = port, threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Closes the connections of all threads."""
        for connection in self._opened:
            connection.close()

    def ask(self, path: str, body: bytes) -> Reply:
        """The reply to one request; an answer in full, parsed as a client would."""
        status, text = self.post(path, body)
        told = json.loads(text)
        if status != 200:
            return Reply(status, {}, ())
        return Reply(status, told["timings_ms"], told["degraded"], told["release"])

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of a reply. A connection that the server closed is opened again once."""
        for attempt in (1, 2):
            connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
            if connection is None:
                connection = self._own.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
                self._opened.append(connection)
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                return response.status, response.read()
            except (http.client.HTTPException, ConnectionError):
                connection.close()
                self._own.connection = None
                if attempt == 2:
                    raise
        raise AssertionError("a request is made twice at most")

    def record(self, events: Events, stop: threading.Event) -> int:
        """Records EVENTS a second until told to stop; returns how many were kept."""
        rng, begun, made, kept = np.random.default_rng(), time.perf_counter(), 0, 0
        while not stop.is_set():
            status, text = self.post("/v1/events", json.dumps({"events": events.draw(rng)}).encode())
            kept += json.loads(text)["new"] if status == 200 else 0
            made += EVENTS_AT_ONCE
            time.sleep(max(0.0, begun + made / EVENTS - time.perf_counter()))
        return kept


@contextmanager
def served(bundle: Path, *, workers: int, device: str) -> Iterator[int]:
    """Serves a bundle in a process of its own, and gives the port. Raises BadConfig where it does not begin."""
    port = _free_port()
    command = [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", str(port), "--workers", str(workers)]
    with (bundle.parent / "server.log").open("ab") as log:
        process = subprocess.Popen([*command, "--device", device], stdout=log, stderr=log, env=os.environ)
    try:
        _wait_until(lambda: _is_ready(port), process, log_path=bundle.parent / "server.log")
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, log_path: Path) -> None:
    end = time.monotonic() + START
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            told = log_path.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise BadConfig(f"the server did not begin: {' '.join(told) or 'it says nothing'}")
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
