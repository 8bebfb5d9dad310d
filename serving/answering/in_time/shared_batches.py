"""Batches that concurrent callers of a model share: who finds it idle leads, and takes along whoever waits.

While a batch runs, others gather; the first of them leads the next one. Nobody waits for company but where the model is
idle and other callers are inside the engine, and then WAIT at most.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from retrieval.encoders.runtime import available_cores
from serving.answering.in_time.otherwise import QueueFull

WAIT = 0.002  # seconds for company
MOST_WAITING = 64  # callers of one model; further ones go on without it

Work = TypeVar("Work")
Result = TypeVar("Result")


class Callers:
    """Counts the requests that an engine is answering. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cores = available_cores()
        self.inside = 0

    def slowdown(self) -> float:
        """How many times as long work takes now as it would for a caller alone: as there are callers for each core."""
        return max(1.0, self.inside / self._cores)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One more is being answered inside the block."""
        with self._lock:
            self.inside += 1
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1


@dataclass(eq=False)
class _Ticket(Generic[Work, Result]):
    """What one caller wants of the model; `called` is set once it is done, or its caller is to lead."""

    work: Work
    size: int
    called: threading.Event = field(default_factory=threading.Event)
    results: list[Result] = field(default_factory=list)  # one, once it is done
    error: Exception | None = None


class SharedBatches(Generic[Work, Result]):
    """Calls `run` with the work of several callers at once; it gives a result for each.

    A batch is at most `budget` large in the unit of the callers' `size`, but for one that is larger alone. A single
    caller inside the engine runs at once. Raises QueueFull where MOST_WAITING callers wait, and what `run` raises, to
    all who share the batch. Safe to use from many threads, and after a fork that waits until no caller is inside.
    """

    def __init__(self, run: Callable[[Sequence[Work]], Sequence[Result]], budget: int, callers: Callers) -> None:
        self._run, self._budget, self._callers = run, budget, callers
        self._changed = threading.Condition()
        self._waiting: deque[_Ticket[Work, Result]] = deque()
        self._busy = False

    def __call__(self, work: Work, size: int) -> Result:
        """The result for the work of one caller."""
        if self._callers.inside < 2 and not self._busy:
            return self._run([work])[0]
        ticket = _Ticket[Work, Result](work, size)
        if not self._leads_at_once(ticket):
            ticket.called.wait()
        if not ticket.results and ticket.error is None:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.results[0]

    def _leads_at_once(self, ticket: _Ticket[Work, Result]) -> bool:
        """Queues, and tells whether the caller is to lead: the model is idle, and company was waited for."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise QueueFull(f"{MOST_WAITING} callers wait for the model")
            self._waiting.append(ticket)
            self._changed.notify_all()
            if self._busy:
                return False
            self._busy = True
            self._changed.wait_for(self._is_complete, WAIT)
            return True

    def _is_complete(self) -> bool:
        """Whether nobody else can come, or no more fits."""
        return len(self._waiting) >= self._callers.inside or sum(one.size for one in self._waiting) >= self._budget

    def _lead(self) -> None:
        """Runs the batch of the first who wait, the caller before all others; then calls whoever was in it, and who is
        to lead the next."""
        with self._changed:
            batch = [self._waiting.popleft()]
            size = batch[0].size
            while self._waiting and size + self._waiting[0].size <= self._budget:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
        try:
            for ticket, result in zip(batch, self._run([one.work for one in batch]), strict=True):
                ticket.results.append(result)
        except Exception as error:
            for ticket in batch:
                ticket.error = error
        with self._changed:
            leader = self._waiting[0] if self._waiting else None
            self._busy = leader is not None
        for ticket in batch:
            ticket.called.set()
        if leader is not None:
            leader.called.set()
