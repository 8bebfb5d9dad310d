"""What a job is doing: progress on stderr, and a line of JSON for every event in a file, for machines."""

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
    """The stages of one job, one after the other, and how it ended.

    A line holds `time`, `stage`, `event`, `seconds` since the stage began, and what the event brings: `begin` and
    `progress` the `done` and `total` where they are counted, an event of `note` what it was given. The last line is of
    the whole job: `outcome`, with what `finish` was given and the seconds of all `stages`, or `failed`, with the
    `error` and the `exit_code`. `clock` gives seconds and only ever rises. Raises BadConfig for a path that can be no
    file, BadBundle where the disk refuses.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise BadConfig(f"--log {path} is a folder, or lies in none; name a file in a folder that is there")
        self._path, self._now, self._clock = path, now, clock
        self._stage, self._begun, self._first = "", 0.0, clock()
        self._meter: ProgressMeter | None = None
        self.seconds: dict[str, float] = {}

    def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """So many of so many are done of a stage; another stage than before is begun, and that one ended."""
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
        """`amount` more are done, shown and not written down."""
        if self._meter is not None:
            self._meter.advance(amount)

    def note(self, event: str, **figures: object) -> None:
        """An event of the stage."""
        self._write(event, **figures)

    def end(self) -> None:
        """Ends the stage, if there is one."""
        if self._meter is not None:
            self._meter.close()
        if self._stage:
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + self._spent, 3)
            self._write("end")
        self._stage, self._meter = "", None

    def finish(self, outcome: str, **figures: object) -> None:
        """The job has come to its end."""
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
