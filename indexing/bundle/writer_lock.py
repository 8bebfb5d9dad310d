"""The writer lock of a bundle: one writer at a time; a dead process cannot hold it."""

from __future__ import annotations

import fcntl
import os
import re
import threading
import weakref
from pathlib import Path
from types import TracebackType

from indexing.bundle.atomic_files import writing_to
from retrieval.errors import BadBundle


class WriterLock:
    """An exclusive `flock` on one file, held during the context; it may be entered again by the same thread.

    The kernel releases the lock when the process ends in any way. A forked child (such as a data loader's worker)
    closes its copy of the descriptor, so that it cannot hold the lock of a dead parent. The file names the holder's
    process. Readers take no lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._depth = 0
        self._owner = 0
        _LOCKS.add(self)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock now."""
        return self._depth > 0

    def holder(self) -> int | None:
        """The id of the process that holds the lock, None where none does; does not take the lock.

        Read from the kernel's list of locks, which shows the processes of this machine or container.
        """
        try:
            holder = int(self._path.read_text("ascii"))
            inode = self._path.stat().st_ino
            locks = Path("/proc/locks").read_text("ascii").splitlines()
        except (OSError, ValueError):
            return None
        pattern = re.compile(rf".* FLOCK .* WRITE {holder} [0-9a-f]+:[0-9a-f]+:{inode} .*")
        return holder if any(map(pattern.fullmatch, locks)) else None

    def __enter__(self) -> WriterLock:
        """Take the lock at once, or raise BadBundle with the id of the process that holds it."""
        if self._depth == 0:
            self._acquire()
            self._owner = threading.get_ident()
        elif self._owner != threading.get_ident():
            raise self._refusal(os.getpid())
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth = max(0, self._depth - 1)  # it is 0 already where a forked child leaves the context
        if self._depth == 0:
            self._release()

    def _acquire(self) -> None:
        with writing_to(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise self._refusal(holder or "unknown") from None
        except OSError as error:
            os.close(descriptor)
            raise BadBundle(
                f"{self._path}: the file system cannot lock files ({error.strerror or error}), so that two writers "
                "could spoil each other's work; keep the bundle on a local disk, or mount the share with locks "
                "(NFS: version 4, without nolock)"
            ) from error
        try:
            with writing_to(self._path):  # overwrites in place, which works on a full disk
                os.ftruncate(descriptor, os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _refusal(self, holder: int | str) -> BadBundle:
        return BadBundle(
            f"{self._path.parent} is being written by process {holder}; wait for it to end, then run again"
        )

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _forget_in_child(self) -> None:
        self._release()
        self._depth = 0


_LOCKS: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_LOCKS):
        lock._forget_in_child()


os.register_at_fork(after_in_child=_after_fork)
