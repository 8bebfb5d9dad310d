"""Servers that tests ask: an application in this process, and `shortlist serve` in another."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from serving.http.connections import bounded
from serving.http.options import Limits

ROOT = Path(__file__).parent.parent
LONGEST_START = 120.0  # seconds
COMMAND = "import sys; from serving.cli.app import app; app()"


@contextmanager
def running(app: FastAPI, limits: Limits | None = None) -> Iterator[str]:
    """The address at which an application is served, by a thread."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=bounded(limits or Limits()), ws="none", log_config=None, access_log=False
    )
    server, bound = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class ServerProcess:
    """`shortlist serve` in a process of its own."""

    def __init__(self, bundle: Path, log: Path, *options: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", "0", *options],
                cwd=ROOT,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )
        self.url = self._address()

    def end(self, sig: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(sig)
        return self.process.wait(LONGEST_START)

    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text()

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(process) for process in found.split()]

    def _address(self) -> str:
        end = time.monotonic() + LONGEST_START
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"http://\S+", self.log()):
                return found[0]
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"the server did not begin: {self.log()}")


@contextmanager
def serving(bundle: Path, log: Path, *options: str) -> Iterator[ServerProcess]:
    """A server process, which is killed at the end if it still runs."""
    server = ServerProcess(bundle, log, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()
