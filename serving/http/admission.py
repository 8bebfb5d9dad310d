"""How many requests are answered at once: the others wait, and those that find no room are told to come again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from serving.http.options import Limits
from serving.http.problems import RETRY_AFTER, Problem

T = TypeVar("T")


class Admission:
    """Runs calls on threads of its own, `limits.running` at once, and lets `limits.waiting` wait."""

    def __init__(self, limits: Limits, changed: Callable[[int, int], object] = lambda running, waiting: None) -> None:
        """`changed` is told how many calls run and wait, whenever that changes."""
        self._limits, self._changed = limits, changed
        self._threads = ThreadPoolExecutor(limits.running, thread_name_prefix="answers")
        self.inside = 0  # calls that run or wait

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return max(0, self.inside - self._limits.running)

    async def run(self, call: Callable[[], T]) -> T:
        """What a call returns or raises. Raises Problem 429 where there is no room for it, and 504 where it takes too
        long: where it runs it is not ended then, and takes its room until it ends."""
        if self.inside >= self._limits.running + self._limits.waiting:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.inside} requests are being answered or wait; try again after {RETRY_AFTER} s",
                headers={"Retry-After": RETRY_AFTER},
            )
        self._count(1)
        loop, future = asyncio.get_running_loop(), self._threads.submit(call)
        future.add_done_callback(lambda _: self._tell(loop))
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._limits.timeout_s)
        except TimeoutError:
            future.cancel()  # one that still waits; nobody waits for its answer any more
            raise Problem(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"there was no answer within {self._limits.timeout_s:g} s; ask for less, or with a lower deadline_ms",
            ) from None

    def close(self) -> None:
        """Waits for what runs."""
        self._threads.shutdown()

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(self._count, -1)

    def _count(self, more: int) -> None:
        self.inside += more
        self._changed(self.inside - self.waiting, self.waiting)
