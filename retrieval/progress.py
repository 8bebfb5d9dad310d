"""Progress of long loops, on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

LINE_EVERY = 10.0  # seconds between two lines where stderr is not a terminal


@dataclass
class LoopRecord:
    """A finished loop: how many units it did in how many seconds, and its figures over time."""

    description: str
    unit: str
    done: int = 0
    seconds: float = 0.0
    figures: list[tuple[float, dict[str, float]]] = field(default_factory=list)  # (seconds since its start, by name)
    memory: dict[str, float] = field(default_factory=dict)  # figures of `record_loops`' `memory` at its end


class _Recording(NamedTuple):
    """The loops that have ended, and a function that measures memory as each does."""

    ended: list[LoopRecord]
    memory: Callable[[], dict[str, float]]


_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)


@contextmanager
def record_loops(memory: Callable[[], dict[str, float]] = dict) -> Iterator[list[LoopRecord]]:
    """Records every loop that ends inside the block, in that order: `with record_loops() as loops: ...`.

    `memory` is called as each of them ends and returns figures by name.
    """
    found: list[LoopRecord] = []
    token = _recording.set(_Recording(found, memory))
    try:
        yield found
    finally:
        _recording.reset(token)


class ProgressMeter:
    """Counts the units done and shows them with the rate, the time left and any named figures.

    `total`, `done` and `advance` count `unit` (examples, texts, rows); a total of 0 is not known. `clock` is monotonic,
    in seconds.
    """

    def __init__(
        self,
        total: int,
        description: str,
        *,
        unit: str = "items",
        done: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.description, self.unit, self.done = total, description, unit, done
        self._clock, self._begun, self._start = clock, clock(), done
        self._shown_at, self._figures = self._begun, dict[str, float]()
        self._record = LoopRecord(description, unit)
        self._console = console or Console(file=sys.stderr)
        self._bar: Progress | None = _bar(self._console) if self._console.is_terminal else None
        self._task: TaskID | None = None
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(description, total=total or None, completed=done, state="")

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Adds `amount` units; `figures`, such as `loss=0.41`, replace those of the same name."""
        self.done += amount
        self._figures.update(figures)
        if figures:
            self._record.figures.append((self._clock() - self._begun, figures))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, state=self.state())
        elif self._clock() - self._shown_at >= LINE_EVERY:
            self._print_line()

    def state(self) -> str:
        """The figures, the rate and the time left, as shown: `loss 0.412, 118 examples/s, 2 min 10 s left`."""
        elapsed = self._clock() - self._begun
        parts = [f"{name} {value:.4g}" for name, value in self._figures.items()]
        rate = (self.done - self._start) / elapsed if elapsed > 0 else 0.0
        if rate > 0:
            parts += [f"{rate:,.{0 if rate >= 10 else 1}f} {self.unit}/s"]
            parts += [f"{duration(max(0, self.total - self.done) / rate)} left"] if self.done < self.total else []
        return ", ".join(parts)

    def close(self) -> None:
        """Leave the last state on the screen; a loop that took under ten seconds leaves no line."""
        if (recording := _recording.get()) is not None:
            self._record.done, self._record.seconds = self.done - self._start, self._clock() - self._begun
            self._record.memory = recording.memory()
            recording.ended.append(self._record)
        if self._bar is not None:
            self._bar.stop()
        elif self._clock() - self._begun >= LINE_EVERY:
            self._print_line()

    def _print_line(self) -> None:
        self._shown_at = self._clock()
        share = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        line = ", ".join(part for part in (f"{self.description}: {share}", self.state()) if part)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(
    total: int, description: str, *, unit: str = "items", console: Console | None = None
) -> Iterator[Callable[..., None]]:
    """`with progress(len(texts), "embedding", unit="texts") as advance: ... advance(64)`."""
    meter = ProgressMeter(total, description, unit=unit, console=console)
    try:
        yield meter.advance
    finally:
        meter.close()


def duration(seconds: float) -> str:
    """A duration in words, from seconds.

    >>> duration(42.4), duration(130), duration(7_500)
    ('42 s', '2 min 10 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TextColumn("{task.fields[state]}", markup=False),
    )
    return Progress(*columns, console=console, refresh_per_second=4)
