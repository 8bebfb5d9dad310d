"""`shortlist serve` as a process: workers that answer alike, ends that lose nothing, callers that stay for nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from http_servers import ServerProcess, serving
from indexing.bundle.bundle import Bundle
from serving.client import Client, ServerError
from serving.live.sqlite_store import SqliteStore

pytestmark = pytest.mark.slow
TOGETHER = 0.25  # seconds between the first worker and the last, on a busy machine: opening a release takes longer
LONGEST = 60.0  # seconds until what is waited for has to be


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


class Load:
    """Threads that ask a server all the while, each over connections of its own."""

    def __init__(self, url: str, ask: Callable[[Client, int], object], threads: int = 4) -> None:
        self.told: list[tuple[float, float, object]] = []  # when asked, when answered, what
        self.failed: list[Exception] = []
        self._url, self._ask, self._stop = url, ask, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        with Client(self._url, retries=0, timeout=60) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    found = self._ask(client, number)
                except ServerError as error:
                    self.failed.append(error)
                    if error.status is None and self._stop.wait(0.01):
                        return
                else:
                    self.told.append((begun, time.monotonic(), found))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_end_under_load_loses_nothing_that_was_accepted(own_bundle: Path, tmp_path: Path, workers: int) -> None:
    counter = iter(range(10**9))
    lock = threading.Lock()

    def record(client: Client, number: int) -> str:
        with lock:
            event_id = f"e{next(counter)}"
        client.record(f"shopper {number}", "item-00001", "view", event_id=event_id)
        return event_id

    with serving(own_bundle, tmp_path / "log", "--workers", str(workers)) as server:
        load = Load(server.url, record)
        until(lambda: len(load.told) > 100)
        code = server.end(signal.SIGTERM)
        load.stop()
        assert code == 0, server.log()
    kept = {one.event.event_id for one in SqliteStore(own_bundle / "live" / "events.sqlite").since(0, 10_000_000)}
    acknowledged = {str(event_id) for _, _, event_id in load.told}
    assert acknowledged <= kept
    assert all(isinstance(error, ServerError) and error.status in (None, 503) for error in load.failed)
    assert "Traceback" not in server.log()


def test_an_interrupt_ends_it_as_well(own_bundle: Path, tmp_path: Path) -> None:
    with serving(own_bundle, tmp_path / "log") as server:
        assert server.end(signal.SIGINT) == 0
        assert "Traceback" not in server.log()


def another_release(bundle: Path) -> str:
    """Publishes another release like the live one; its id."""
    opened = Bundle.open(bundle)
    draft = replace(
        opened.current(), id="20260202T000000-second", created="2026-02-02T00:00:00+00:00", parent=None, manifests={}
    )
    return opened.publish(draft).id


def test_all_workers_answer_from_another_release_together(own_bundle: Path, tmp_path: Path) -> None:
    first = Bundle.open(own_bundle).current().id
    with serving(own_bundle, tmp_path / "log", "--workers", "2") as server:
        load = Load(server.url, lambda client, number: client.recommend(k=3).release)
        try:
            until(lambda: len(load.told) > 50)
            second = another_release(own_bundle)
            until(lambda: load.told[-1][2] == second)
            asked = len(load.told)
            until(lambda: len(load.told) > asked + 50)
            rolled_back = time.monotonic()
            with Client(server.url) as client:
                moved = client.roll_back()  # returns once it answers
                assert (moved.live, moved.before, moved.answering) == (first, second, first)
            until(lambda: load.told[-1][2] == first)
        finally:
            load.stop()
    assert load.failed == []
    answered_first = min(answered for _, answered, release in load.told if release == second)
    assert {release for _, _, release in load.told} == {first, second}
    late = [release for begun, _, release in load.told if answered_first + TOGETHER < begun < rolled_back]
    assert set(late) <= {second}


def test_a_worker_that_is_killed_is_replaced_and_follows_releases(own_bundle: Path, tmp_path: Path) -> None:
    with serving(own_bundle, tmp_path / "log", "--workers", "2") as server, Client(server.url, retries=5) as client:
        before = server.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(set(server.workers()) - set(before)) == 1)
        assert client.recommend(k=2).items
        second = another_release(own_bundle)
        until(lambda: client.recommend(k=2).release == second)
        assert [client.recommend(k=2).release for _ in range(20)] == [second] * 20
        assert server.end() == 0


def test_workers_end_when_what_started_them_is_killed(own_bundle: Path, tmp_path: Path) -> None:
    with serving(own_bundle, tmp_path / "log", "--workers", "2") as server:
        workers = server.workers()
        assert len(workers) == 2
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        assert server.log().count("the process that started this worker is gone") == 2


def test_a_bundle_that_cannot_be_opened_ends_it_with_one_line(own_bundle: Path, tmp_path: Path) -> None:
    for part in (own_bundle / "index").glob("*/*"):
        if part.is_file():
            part.unlink()
    for workers in ("1", "2"):
        with pytest.raises(AssertionError, match="error: ") as failed:
            ServerProcess(own_bundle, tmp_path / "log", "--workers", workers)
        assert "Traceback" not in str(failed.value)


def memory(process: int) -> int:
    """Bytes that a process holds of its own."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


@pytest.mark.parametrize("begun", [b"", b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_thousands_of_connections_left_open_take_little_and_hinder_nobody(
    own_bundle: Path, tmp_path: Path, begun: bytes
) -> None:
    with serving(own_bundle, tmp_path / "log") as server, Client(server.url) as client:
        client.search("red mug")
        before, at = memory(server.process.pid), urlsplit(server.url)
        left = []
        for _ in range(2_000):
            connection = socket.create_connection((str(at.hostname), int(at.port or 0)))
            connection.sendall(begun)
            left.append(connection)
        assert client.search("red mug").items
        assert memory(server.process.pid) - before < 200 * 2**20
        assert client.ready()
        for connection in left:
            connection.close()
        assert server.end() == 0
        assert "Traceback" not in server.log()
