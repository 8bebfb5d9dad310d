"""Children of a process that opened an engine answer as their parent does, however they came to be."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "2",  # threads that a child does not have
    "OMP_WAIT_POLICY": "passive",  # and that do not spin where cores are few
}
GIVEN_UP = 900  # seconds, after which children that never answer are ended
OFTEN = [("openvino", "os", "answering"), ("openvino", "fork", "answered"), ("torch", "fork", "answered")]
BY_METHOD = [(method, when) for method in ("fork", "spawn", "forkserver") for when in ("opened", "answered")]
EVERY = [("os", "answering"), *BY_METHOD]
SELDOM = [(runtime, *way) for runtime in ("openvino", "torch") for way in EVERY if (runtime, *way) not in OFTEN]


@pytest.mark.parametrize(
    ("runtime", "method", "when"), [*OFTEN, *(pytest.param(*one, marks=pytest.mark.slow) for one in SELDOM)]
)
def test_children_answer_as_their_parent_does(
    bundle_path: Path, tmp_path: Path, runtime: str, method: str, when: str
) -> None:
    program = [sys.executable, str(TESTS / "fork_answers.py"), str(bundle_path), runtime, method, when, str(tmp_path)]
    done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, timeout=GIVEN_UP)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"codes": [0] * 4, "alike": 200, "reranked": told["reranked"], "all": 200}, done.stderr
    assert told["reranked"] > 50


@pytest.mark.parametrize("warm", ["yes", pytest.param("", marks=pytest.mark.slow)])
def test_workers_of_gunicorn_with_a_preloaded_engine_answer(bundle_path: Path, warm: str) -> None:
    found = dict[int, list[dict[str, Any]]]()
    with _gunicorn(ENVIRONMENT | {"FORK_APP_OPEN": f"{bundle_path}:openvino", "FORK_APP_WARM": warm}) as address:
        while len({one["worker"] for told in found.values() for one in told}) < 2:
            for number in range(25):
                with ThreadPoolExecutor(4) as pool:
                    told = pool.map(lambda at: _ask(address, at), [number] * 4)
                    found.setdefault(number, []).extend(told)
    for told in found.values():
        wanted = told[0]["parents"] or [told[0]["answer"]]
        assert [one["answer"] for one in told] == wanted * len(told)
        assert len(told[0]["parents"]) == bool(warm)


@contextmanager
def _gunicorn(environment: dict[str, str]) -> Iterator[str]:
    """Two preloaded workers; the address of their socket. At the end they go, and nothing was killed or crashed."""
    with TemporaryDirectory() as folder, Path(folder, "log").open("w+b") as log:  # a socket's path has to be short
        address = f"{folder}/socket"
        options = ["-w", "2", "-t", str(GIVEN_UP), "-b", f"unix:{address}", "--no-control-socket"]
        program = [sys.executable, "-m", "gunicorn", "--preload", *options, "fork_app:app"]
        server = subprocess.Popen(program, env=environment, stderr=log)
        try:
            while not Path(address).exists():
                assert server.poll() is None, Path(log.name).read_text("utf-8")
                time.sleep(0.05)
            yield address
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(GIVEN_UP)
        told = Path(log.name).read_text("utf-8")
    assert code == 0, told
    assert not any(word in told for word in ("SIGKILL", "SIGSEGV", "SIGABRT", "terminate called")), told


def _ask(address: str, number: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=GIVEN_UP)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(GIVEN_UP)
    connection.sock.connect(address)
    connection.request("GET", f"/{number}")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found
