"""One writer at a time, and no dead one."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexing.bundle.bundle import Bundle
from indexing.bundle.writer_lock import WriterLock
from retrieval.errors import BadBundle
from serving.cli.app import app

HOLDER = """
import os, sys
from pathlib import Path
from indexing.bundle.writer_lock import WriterLock
with WriterLock(Path(sys.argv[1])):
    if sys.argv[2] == "alone" or os.fork() == 0:
        print(os.getpid(), flush=True)  # the child, once it runs
    sys.stdin.read()
"""


def holder(path: Path, mode: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_second_writer_is_refused_in_one_line_with_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    process, _ = holder(tmp_path / "LOCK", "alone")
    with (
        pytest.raises(BadBundle, match=f"is being written by process {process.pid}; wait") as caught,
        WriterLock(tmp_path / "LOCK"),
    ):
        pass
    assert "\n" not in str(caught.value)
    process.communicate("")
    with WriterLock(tmp_path / "LOCK") as lock:
        assert lock.held


def test_a_file_system_without_locks_is_one_line_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(BadBundle, match=r"cannot lock files.*keep the bundle on a local disk") as caught:
        WriterLock(tmp_path / "LOCK").__enter__()
    assert "\n" not in str(caught.value)
    Bundle.create(tmp_path / "bundle")
    told = CliRunner().invoke(app, ["release", "prune", str(tmp_path / "bundle"), "--keep", "1"])
    assert (told.exit_code, "cannot lock files" in told.stderr, told.stderr.count("\n")) == (2, True, 1)
    monkeypatch.undo()
    with WriterLock(tmp_path / "LOCK") as lock:
        assert lock.held


def test_who_writes_can_be_asked_without_a_lock(tmp_path: Path) -> None:
    asked = WriterLock(tmp_path / "LOCK")
    assert asked.holder() is None
    process, _ = holder(tmp_path / "LOCK", "alone")
    assert asked.holder() == process.pid
    process.communicate("")
    assert asked.holder() is None
    with asked:
        assert WriterLock(tmp_path / "LOCK").holder() == os.getpid()


def test_a_killed_writer_does_not_hold_the_lock_nor_does_the_child_it_forked(tmp_path: Path) -> None:
    process, child = holder(tmp_path / "LOCK", "fork")
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        os.kill(child, 0)  # the child lives on and has inherited every descriptor but this one
        with WriterLock(tmp_path / "LOCK") as lock:
            assert lock.held
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_the_lock_nests_in_one_thread_and_refuses_another(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "LOCK")
    refused: list[str] = []

    def other() -> None:
        try:
            with lock:
                refused.append("entered")
        except BadBundle as error:
            refused.append(str(error))

    with lock, lock:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]
    assert not lock.held


def test_a_lock_that_finds_no_room_is_one_line_and_not_held(tmp_path: Path) -> None:
    (tmp_path / "LOCK").symlink_to("/dev/full")
    lock = WriterLock(tmp_path / "LOCK")
    for _ in range(2):
        with pytest.raises(BadBundle, match=r"cannot write .*LOCK: No space left on device; free some space"), lock:
            pass
    assert not lock.held


def test_readers_take_no_lock(bundle: Bundle) -> None:
    with bundle.lock():
        assert Bundle.open(bundle.path).releases() == []
        with pytest.raises(BadBundle, match="being written by process"), Bundle.open(bundle.path).lock():
            pass
