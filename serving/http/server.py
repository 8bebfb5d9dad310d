"""Opens a bundle and serves it, in one process or in several that share its files."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from indexing.bundle.bundle import Bundle
from retrieval.errors import BadConfig, ShortlistError
from serving.engine import Engine
from serving.exit_codes import exit_code_of, one_line
from serving.http.access import Keys
from serving.http.answers import Answering
from serving.http.app import make_app
from serving.http.board import Board, WorkerSwitch
from serving.http.connections import bounded
from serving.http.observing.metrics import worker_ended
from serving.http.observing.observing import Observing, observing
from serving.http.options import Limits

LOOK_EVERY = 0.25  # seconds between looks for another release, for updates and rules
GRACE = 30  # seconds for what was accepted, once the server is told to end
BACKLOG = 2_048
PAUSE = 1.0  # seconds before a worker takes the place of one that failed
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served: a bundle, how it is opened, and who may ask; `only_local`: see `make_app`."""

    path: Path
    device: str = "auto"
    events: str | None = None
    keys: Keys | None = None
    only_local: bool = False
    limits: Limits = field(default_factory=Limits)

    def app(self, engine: Engine, observing: Observing | None = None) -> FastAPI:
        """The application over an engine of the bundle, with all that changes the bundle."""
        bundle = Bundle.open(self.path)
        return make_app(
            engine,
            bundle,
            keys=self.keys,
            only_local=self.only_local,
            limits=self.limits,
            observing=observing,
        )


class _Server(uvicorn.Server):
    """A server that is not ready any more as soon as it is told to end, and returns when it has ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would end the process by the signal that it had, before the engine is closed."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in SIGNALS}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.ready = False  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0: any that is free. Raises BadConfig where it cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the body waits for the head to arrive
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise BadConfig(f"cannot listen on {host} port {port}: {error}; give another --host or --port") from error
    bound.set_inheritable(True)
    return bound


def serve(served: Served, bound: socket.socket, *, workers: int = 1, ready: Callable[[], None] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, and then ends what was accepted. Returns the exit code.

    `ready` is called once the first worker answers. Raises what `Engine.open` raises, where one process serves.
    """
    Bundle.open(served.path).current()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if hard != resource.RLIM_INFINITY else (soft, hard))
    with observing(workers) as watched:
        if workers == 1:
            _work(served, bound, watched, None, ready)
            return 0
        return _Supervisor(served, bound, watched, workers, ready).run()


def _work(
    served: Served,
    bound: socket.socket,
    watched: Observing,
    switch: WorkerSwitch | None,
    ready: Callable[[], None] | None,
) -> None:
    """Opens the bundle, warms it, and answers until the process is told to end."""
    with Engine.open(served.path, device=served.device, events=served.events, switch=switch) as engine:
        engine.warm_up()
        if switch is not None:
            switch.ready(engine.release.id)
        app = served.app(engine, watched)
        app.state.ready = True
        config = uvicorn.Config(
            app,
            http=bounded(served.limits),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE,
        )
        ended = threading.Event()
        looking = threading.Thread(
            target=_look, args=(app.state.answering, switch, ended), name="looks for releases", daemon=True
        )
        looking.start()
        bound.listen(BACKLOG)
        if ready is not None:
            ready()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_Server(config).serve([bound]))
        finally:
            ended.set()
            looking.join()


def _look(answering: Answering, switch: WorkerSwitch | None, ended: threading.Event) -> None:
    """Looks for what is newer though no request comes, and keeps it for cursors; ends a worker that is alone."""
    while not ended.wait(LOOK_EVERY):
        if switch is not None and switch.orphaned:
            log.error("the process that started this worker is gone; it ends")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        try:
            answering.keep_newest()
            if switch is not None:
                switch.answers(answering.engine.release.id)
        except ShortlistError as error:
            log.warning("looking for what is newer: %s", error)


class _Supervisor:
    """Forks workers, replaces those that fail, and lets all answer from another release at once."""

    def __init__(
        self,
        served: Served,
        bound: socket.socket,
        watched: Observing,
        workers: int,
        ready: Callable[[], None] | None,
    ) -> None:
        self._served, self._bound, self._watched, self._ready = served, bound, watched, ready
        self._bundle, self._board = Bundle.open(served.path), Board(workers)
        self._workers: dict[int, int] = {}  # the number of each by its process id
        self._failed: dict[int, float] = {}  # numbers without a process, and since when
        self._ending = False

    def run(self) -> int:
        """Until told to end, or until a worker cannot begin; the exit code."""
        for sig in SIGNALS:
            signal.signal(sig, self._end)
        self._look()
        for worker in range(self._board.workers):
            self._fork(worker)
        code, told = 0, self._ready
        while self._workers or (self._failed and not self._ending):
            code = self._reap() or code
            if not self._ending:
                self._look()
                self._replace()
            if told is not None and self._board.settled:
                self._bound.listen(BACKLOG)  # as the workers do in a moment
                told()
                told = None
            time.sleep(LOOK_EVERY / 5)
        return code

    def _look(self) -> None:
        """What every worker is to answer from."""
        try:
            release = self._bundle.current_id()
        except (ShortlistError, OSError) as error:
            log.warning("looking for another release: %s", error)
            return
        if release is not None:
            self._board.want(release)
        self._board.settle(self._workers.values())

    def _replace(self) -> None:
        """Forks workers in place of those that ended a while ago."""
        for worker in [worker for worker, since in self._failed.items() if time.monotonic() > since + PAUSE]:
            del self._failed[worker]
            self._fork(worker)

    def _fork(self, worker: int) -> None:
        self._board.clear(worker)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # told to end meanwhile, it would not tell this worker
        process = 0 if self._ending else os.fork()
        if process or self._ending:
            self._workers |= {process: worker} if process else {}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return
        code = 1
        try:
            for sig in SIGNALS:
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            watched = replace(self._watched, worker=worker)
            _work(self._served, self._bound, watched, WorkerSwitch(self._board, worker), None)
            code = 0
        except ShortlistError as error:
            sys.stderr.write(f"error: {one_line(error)}\n")
            code = exit_code_of(error)
        except BaseException:
            log.exception("a worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> int:
        """The exit code of a worker that ended; others take the place of those that ended by themselves, but where the
        bundle cannot be opened."""
        process, status = os.waitpid(-1, os.WNOHANG) if self._workers else (0, 0)
        if not process or (worker := self._workers.pop(process, None)) is None:
            return 0
        worker_ended(process)
        code = os.waitstatus_to_exitcode(status)
        if self._ending:
            return max(code, 0)
        log.error("worker %d ended with %d", worker, code)
        if code == ShortlistError.exit_code:
            self._end(signal.SIGTERM, None)
            return code
        self._failed[worker] = time.monotonic()
        return 0

    def _end(self, sig: int, frame: FrameType | None) -> None:
        del frame
        self._ending = True
        for process in list(self._workers):
            os.kill(process, signal.SIGTERM)
