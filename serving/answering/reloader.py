"""Keeps what an engine answers from up to date: updates of the index at once, a new release once it is open and warm.

No thread lives on: a request that comes half a second after the last look looks again, and a release that became live
is opened by a thread of its own, while requests go on with the one before. What goes wrong here fails no request.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from indexing.bundle.bundle import Bundle
from retrieval.errors import ShortlistError
from serving.answering.opened import Opened

LOOK_EVERY = 0.5  # seconds
RETRY_AFTER = 30.0  # seconds, of what could not be opened


class OpenLive(Protocol):
    """Opens the live release, sharing what it can with the state before."""

    def __call__(self, *, like: Opened | None = None) -> Opened: ...


log = logging.getLogger(__name__)


class Follower:
    """The newest state of a bundle that could be opened. Safe to ask from many threads, and after a fork.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, bundle: Bundle, opened: Opened, open_live: OpenLive, clock: Callable[[], float]) -> None:
        self._bundle = bundle
        self._opened = opened
        self._open_live = open_live
        self._clock = clock
        self._next_look = clock() + LOOK_EVERY
        self._retry: dict[str, float] = {}  # what failed, and when to try again
        self._begin()
        _FOLLOWERS.add(self)

    def _begin(self) -> None:
        self._looking, self._flipping = threading.Lock(), threading.Lock()
        self._opening: threading.Thread | None = None

    def newest(self) -> Opened:
        """What to answer from; looks for what is newer where it is time to."""
        now = self._clock()
        if now >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._look(now)
            finally:
                self._looking.release()
        return self._opened

    def refresh(self) -> None:
        """Look now, whatever the time, and wait until what was found is answered from or was given up."""
        with self._looking:
            self._retry.clear()
            self._look(self._clock())
        self.settle()

    def settle(self) -> None:
        """Wait until a release that is being opened is answered from or was given up."""
        if (opening := self._opening) is not None:
            opening.join()

    def _look(self, now: float) -> None:
        self._next_look = now + LOOK_EVERY
        opened = self._opened
        self._attempt(f"updates of release {opened.release.id}", now, lambda: self._flip(opened, opened.updated()))
        self._attempt("the live release's name", now, lambda: self._follow(now))

    def _follow(self, now: float) -> None:
        name = self._bundle.current_id()
        busy = self._opening is not None and self._opening.is_alive()
        if name is None or name == self._opened.release.id or busy or now < self._retry.get(name, now):
            return
        self._opening = threading.Thread(target=self._open, args=(name, now), name=f"opening release {name}")
        self._opening.start()

    def _open(self, name: str, now: float) -> None:
        self._attempt(name, now, self._open_warm)

    def _open_warm(self) -> None:
        before = self._opened
        opened = self._open_live(like=before)
        opened.warm_up()
        self._flip(None, opened)
        log.info("release %s answers in place of %s", opened.release.id, before.release.id)

    def _flip(self, before: Opened | None, opened: Opened) -> None:
        """Answer from `opened`, unless another release took the place of `before` meanwhile."""
        with self._flipping:
            if before is None or self._opened is before:
                self._opened = opened

    def _attempt(self, what: str, now: float, step: Callable[[], None]) -> None:
        """Take a step; where it fails say so and leave it alone for a while."""
        if now < self._retry.get(what, now):
            return
        try:
            step()
        except Exception as error:  # whatever it is, requests are answered from what is open
            self._retry[what] = now + RETRY_AFTER
            known = isinstance(error, ShortlistError | OSError)
            going_on = f"{self._opened.release.id} goes on answering"
            log.warning("%s: cannot be read: %s; %s", what, error, going_on, exc_info=None if known else error)
        else:
            self._retry.pop(what, None)


_FOLLOWERS: weakref.WeakSet[Follower] = weakref.WeakSet()


def _after_fork() -> None:
    for follower in list(_FOLLOWERS):
        follower._begin()  # its locks may be held, and its release opened, by threads that the child does not have


os.register_at_fork(after_in_child=_after_fork)
