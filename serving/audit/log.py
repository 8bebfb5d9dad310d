"""An append-only log of requests and answers: sampled, rotated, without what is personal unless asked for."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data.time_units import SECOND
from retrieval.errors import BadConfig
from serving.answering.live.forget import Forgotten
from serving.audit.records import CURRENT, ROTATED, AuditRecord, record_of
from serving.live.events import now

if TYPE_CHECKING:
    from serving.answering.batch import Batch
    from serving.answering.release_state import ReleaseState
    from serving.request import Request

KEY, LOCK = "key", "lock"  # files beside the log
KEY_BYTES = 32
MAX_BYTES = 64 * 2**20

log = logging.getLogger(__name__)


class AuditLog:
    """Keeps requests and answers in a folder, a JSON object a line; several processes may write to it.

    `sample` is the share of requests that is kept. `inputs` keeps who asked for what, and the features of what was
    answered, so that requests can be asked again; without it a shopper is known by a keyed hash alone, and no text is
    kept. A file of `max_bytes` is put aside, and of those the newest `files` are kept. A log that cannot be written is
    said once in the process's own log and never fails a request. Raises BadConfig for what is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        sample: float = 1.0,
        inputs: bool = False,
        max_bytes: int = MAX_BYTES,
        files: int = 10,
        clock: Callable[[], int] = now,
    ) -> None:
        if not 0 < sample <= 1:
            raise BadConfig(f"sample is {sample!r}; give the share of requests to keep, above 0 and up to 1")
        if max_bytes < 1 or files < 1:
            raise BadConfig(f"max_bytes is {max_bytes!r} and files {files!r}; give 1 or more of each")
        self.folder, self.sample, self.inputs = Path(folder), sample, inputs
        self._max_bytes, self._files, self._clock, self._failed = max_bytes, files, clock, False

    def keep(self, state: ReleaseState, request: Request, batch: Batch) -> None:
        """Keeps a request that was answered, a batch of one, if it is drawn."""
        if self.sample < 1 and random.random() >= self.sample:
            return
        try:
            user = "" if request.user_id is None else self.user_hash(request.user_id)
            self.write(record_of(state, request, batch, at=self._clock(), user=user, inputs=self.inputs))
            self._failed = False
        except (OSError, ValueError) as error:  # ValueError: of text or values that are no JSON
            if not self._failed:
                log.warning("requests are answered without an audit log: %s: %s", self.folder, error)
            self._failed = True

    def write(self, record: AuditRecord) -> None:
        """Appends a record. Raises OSError where it cannot."""
        line = record.model_dump_json(exclude_defaults=True).encode() + b"\n"
        with self._locked(fcntl.LOCK_SH):
            file = os.open(self.folder / CURRENT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, line)
                full = os.fstat(file).st_size >= self._max_bytes
            finally:
                os.close(file)
        if full:
            self._rotate()

    def user_hash(self, user_id: str) -> str:
        """What stands for a shopper's id: without the folder's key, nobody can tell whose it is."""
        return blake2b(user_id.encode("utf-8", "replace"), key=self._key, digest_size=16).hexdigest()

    def forget(self, user_id: str, at: int) -> Forgotten:
        """Takes the records of a shopper out of every file; see `serving.answering.live.forget.Forgets`."""
        del at
        if not self.folder.is_dir():
            return Forgotten()
        own, removed = self.user_hash(user_id).encode(), 0
        with self._locked(fcntl.LOCK_EX):
            for path in self._paths():
                lines = path.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if own not in line]
                if len(kept) == len(lines):
                    continue
                beside = path.with_suffix(".part")
                with beside.open("wb") as file:
                    file.writelines(kept)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
                removed += len(lines) - len(kept)
        return Forgotten((f"{self.folder}: {removed:,} requests of the audit log",) if removed else ())

    def _paths(self) -> list[Path]:
        """The files of the log, oldest first."""
        return [path for path in (*sorted(self.folder.glob(ROTATED)), self.folder / CURRENT) if path.exists()]

    def _rotate(self) -> None:
        """Puts the current file aside, unless another process or thread has."""
        current = self.folder / CURRENT
        with self._locked(fcntl.LOCK_EX):
            if not current.exists() or current.stat().st_size < self._max_bytes:
                return
            moment = datetime.fromtimestamp(self._clock() / SECOND, UTC).strftime("%Y%m%dT%H%M%S%f")
            current.rename(self.folder / ROTATED.replace("*", moment))
            for path in sorted(self.folder.glob(ROTATED))[: -self._files]:
                path.unlink()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Holds the folder's lock: shared by those who append, alone by who moves or rewrites files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    @cached_property
    def _key(self) -> bytes:
        """The secret of the folder's hashes, made with the first."""
        path, beside = self.folder / KEY, self.folder / f".{KEY}.{os.getpid()}.{threading.get_ident()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            beside.touch(0o600)
            beside.write_bytes(os.urandom(KEY_BYTES))
            with suppress(FileExistsError):
                os.link(beside, path)  # the first one stays
            beside.unlink()
        return path.read_bytes()
