"""Answers in a forked child, and forks beside answers.

OpenMP (of torch, FAISS and LightGBM) keeps the threads of each thread that asks for some. Of a forked child's only
thread it takes them to be there still, and waits for them for ever; a thread that is new in the child gets new ones.
See https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378. A lock that another thread holds while a process forks is held
in the child for ever: a fork waits until no answer is being made.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol, TypeVar

T = TypeVar("T")


class Closes(Protocol):
    """What must not be open while a process forks."""

    def close(self) -> None:
        """Close it; it is opened again when it is next used."""
        ...


class ForkGuard:
    """Runs what must not be under way in another thread when the process forks, and runs it in the child, too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: set[int] = set()  # threads
        self._forking = False
        self._forked: int | None = None  # in a child: the thread that forked, its only one at first
        self._own: ThreadPoolExecutor | None = None
        self._closing: weakref.WeakSet[Closes] = weakref.WeakSet()

    def close_before_fork(self, one: Closes) -> None:
        """Close something before each fork from now on, when no call uses it."""
        self._closing.add(one)

    def run(self, call: Callable[[], T]) -> T:
        """What a call returns or raises. A child runs the calls of the thread that forked on a thread of its own."""
        thread = threading.get_ident()
        if thread in self._running:
            return call()
        if thread != self._forked:
            return self._run(call)
        if self._own is None:
            self._own = ThreadPoolExecutor(1, thread_name_prefix="answers after a fork")
        return self._own.submit(copy_context().run, self._run, call).result()

    def _run(self, call: Callable[[], T]) -> T:
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._running.add(thread)
        try:
            return call()
        finally:
            with self._changed:
                self._running.discard(thread)
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Waits until no other thread runs a call; calls that come meanwhile wait until the process has forked."""
        own = {threading.get_ident()}
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._forking = True
            self._changed.wait_for(lambda: self._running <= own)
        for one in list(self._closing):
            one.close()

    def after_fork_in_parent(self) -> None:
        """Lets go on what waited."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Begins anew, with the threads and locks of the child."""
        self._changed = threading.Condition()
        self._running, self._forking = set(), False
        self._forked, self._own = threading.get_ident(), None


FORK_GUARD = ForkGuard()
os.register_at_fork(
    before=FORK_GUARD.before_fork,
    after_in_parent=FORK_GUARD.after_fork_in_parent,
    after_in_child=FORK_GUARD.after_fork_in_child,
)
