"""The progress of a job: bars on stderr, and a file of one JSON object per event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from indexing.bundle.atomic_files import writing_to
from retrieval.errors import BadConfig, ShortlistError
from retrieval.progress import ProgressMeter
from serving.exit_codes import exit_code_of, one_line


class JobLog:
    """The stages of one job in order, and its outcome.

    Each line holds `time`, `stage`, `event`, `seconds` since the stage began, and the event's own fields: `done` and
    `total` of `begin` and `progress` where they are counted, the arguments of `note`. The last line is of the whole
    job: `outcome`, with the arguments of `finish` and the seconds of all `stages`, or `failed`, with `error` and
    `exit_code`. `clock` gives monotonic seconds. Raises BadConfig for a path that cannot be a file, BadBundle where it
    cannot be written.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise BadConfig(
                f"--log {path}: is a folder, or its folder does not exist; name a file in an existing folder"
            )
        self._path, self._now, self._clock = path, now, clock
        self._stage, self._begun, self._first = "", 0.0, clock()
        self._meter: ProgressMeter | None = None
        self.seconds: dict[str, float] = {}

    def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Report that `done` of `total` of a stage are done; a new stage begins, and ends the one before."""
        counted = {"done": done, "total": total} if total else {}
        if stage != self._stage:
            self.end()
            self._stage, self._begun = stage, self._clock()
            self._meter = ProgressMeter(total, stage, done=done, clock=self._clock) if total else None
            self._write("begin", **counted)
        elif counted:
            self._write("progress", **counted)
        if self._meter is not None and done > self._meter.done:
            self._meter.advance(done - self._meter.done)

    def advance(self, amount: int) -> None:
        """Advance the progress bar by `amount`, without a line in the file."""
        if self._meter is not None:
            self._meter.advance(amount)

    def note(self, event: str, **figures: object) -> None:
        """Write an event of the current stage."""
        self._write(event, **figures)

    def end(self) -> None:
        """End the current stage, if any."""
        if self._meter is not None:
            self._meter.close()
        if self._stage:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + self._spent, 3)
            self._write("end")
        self._stage, self._meter = "", None

    def finish(self, outcome: str, **figures: object) -> None:
        """End the job."""
        self.end()
        self._write("outcome", outcome=outcome, **figures, stages=self.seconds)

    def __enter__(self) -> JobLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._meter is not None:
            self._meter.close()
        if error is not None:
            with suppress(ShortlistError, OSError):  # a full disk may be the very error
                self._write("failed", error=one_line(error), exit_code=exit_code_of(error))

    @property
    def _spent(self) -> float:
        return self._clock() - (self._begun if self._stage else self._first)

    def _write(self, event: str, **figures: object) -> None:
        if self._path is None:
            return
        record = {"stage": self._stage, "event": event, "seconds": round(self._spent, 3), **figures}
        line = {"time": self._now().isoformat(timespec="milliseconds"), **record}
        with writing_to(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
