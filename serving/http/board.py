"""What several workers share in memory: which release is wanted, who has it ready, and from when all answer from it."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Collection

NAME = 200  # bytes of a release's id at most
HEAD = struct.Struct("<qq")  # which change of release is wanted, counted from 1, and which one answers
SLOT = struct.Struct("<q")  # the newest change that a worker is ready for
POLL = 0.001  # seconds
LONGEST_UNWANTED = 2.0  # seconds that what a worker has ready may not be wanted, before it is given up
LONGEST_WAIT = 120.0  # seconds that a worker waits for the others, which may have failed to open a release


class Board:
    """Shared by a process and those that it forks later. One process calls `want` and `settle`, each worker the rest
    with a number of its own, from 0."""

    def __init__(self, workers: int) -> None:
        self.workers, self.owner = workers, os.getpid()
        self._memory = mmap.mmap(-1, HEAD.size + SLOT.size * workers + NAME)

    def want(self, release: str) -> None:
        """Make every worker prepare a release, if it is not wanted already."""
        if self.wanted() == release:
            return
        change, answering = HEAD.unpack_from(self._memory)
        self._memory[-NAME:] = release.encode().ljust(NAME, b"\0")
        HEAD.pack_into(self._memory, 0, change + 1, answering)

    def wanted(self) -> str:
        """The release that is wanted; empty before the first."""
        return self._memory[-NAME:].rstrip(b"\0").decode()

    def settle(self, living: Collection[int]) -> None:
        """Let all answer from what is wanted, if all workers that live are ready for it."""
        change, answering = HEAD.unpack_from(self._memory)
        if answering < change and all(self._ready(worker) >= change for worker in living):
            HEAD.pack_into(self._memory, 0, change, change)

    @property
    def settled(self) -> bool:
        """Whether all answer from what is wanted."""
        change, answering = HEAD.unpack_from(self._memory)
        return bool(answering == change)

    def clear(self, worker: int) -> None:
        """Forget what a worker was ready for, before another one takes its place."""
        SLOT.pack_into(self._memory, HEAD.size + SLOT.size * worker, 0)

    def ready(self, worker: int, release: str) -> int | None:
        """Says that a worker can answer from a release, or does; the change that made it wanted, None where another one
        is wanted."""
        change = self._change()
        if self.wanted() != release or self._change() != change:
            return None
        SLOT.pack_into(self._memory, HEAD.size + SLOT.size * worker, change)
        return change

    def wait_for_others(self, worker: int, release: str) -> bool:
        """Says that a worker is ready for a release, and returns once all are: whether to answer from it. It is not
        where another one is wanted, which may be told a moment after the release was made live."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < LONGEST_WAIT:
            change = self.ready(worker, release)
            if change is not None and HEAD.unpack_from(self._memory)[1] >= change:
                return True
            if change is None and waited > LONGEST_UNWANTED:
                return False
            time.sleep(POLL)
        return self.wanted() == release

    def _change(self) -> int:
        return int(HEAD.unpack_from(self._memory)[0])

    def _ready(self, worker: int) -> int:
        return int(SLOT.unpack_from(self._memory, HEAD.size + SLOT.size * worker)[0])


class WorkerSwitch:
    """The part of a board that one worker's engine sees; see `serving.answering.reloader.ReleaseSwitch`."""

    def __init__(self, board: Board, worker: int) -> None:
        self._board, self._worker = board, worker

    @property
    def orphaned(self) -> bool:
        """Whether the process that forked this worker is gone, so that nobody tells it what is wanted, or to end."""
        return os.getppid() != self._board.owner

    def wanted(self) -> str | None:
        """The release to prepare; None before the first."""
        return self._board.wanted() or None

    def ready(self, release: str) -> bool:
        """Returns once all workers have a release ready that this one has: whether to answer from it."""
        return self._board.wait_for_others(self._worker, release)

    def answers(self, release: str) -> None:
        """Says from which release this worker answers."""
        self._board.ready(self._worker, release)
