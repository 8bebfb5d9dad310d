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
from dataclasses import dataclass, replace
from typing import Protocol

from indexing.bundle.bundle import Bundle
from retrieval.errors import ShortlistError
from serving.answering.forked import FORK_GUARD
from serving.answering.pipeline import warm_up
from serving.answering.release_state import ReleaseState
from serving.rules.watch import RulesWatch

POLL_EVERY = 0.5  # seconds
RETRY_AFTER = 30.0  # seconds, of what could not be opened


class OpenLive(Protocol):
    """Opens the live release, sharing what it can with the state before."""

    def __call__(self, *, like: ReleaseState | None = None) -> ReleaseState: ...


class ReleaseSwitch(Protocol):
    """Decides for a process which release it prepares, and from when it answers from it."""

    def wanted(self) -> str | None:
        """The release to prepare; None: none but what answers."""
        ...

    def ready(self, release: str) -> bool:
        """Returns when a release that is open and warm is to answer; False: it is not to."""
        ...


@dataclass(frozen=True)
class LiveAtOnce:
    """The live release of a bundle, as soon as it is open."""

    bundle: Bundle

    def wanted(self) -> str | None:
        """See ReleaseSwitch."""
        return self.bundle.current_id()

    def ready(self, release: str) -> bool:
        """See ReleaseSwitch."""
        del release
        return True


log = logging.getLogger(__name__)


class ReleaseReloader:
    """The newest state of a bundle that could be opened. Safe to ask from many threads, and after a fork.

    `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: ReleaseState,
        open_live: OpenLive,
        clock: Callable[[], float],
        rules: RulesWatch | None = None,
        switch: ReleaseSwitch | None = None,
    ) -> None:
        self._switch = switch or LiveAtOnce(bundle)
        self._rules = rules
        self._state = state
        self._open_live = open_live
        self._clock = clock
        self._next_poll = clock() + POLL_EVERY
        self._retry: dict[str, float] = {}  # what failed, and when to try again
        self._closed = False
        self._begin()
        _RELOADERS.add(self)

    def _begin(self) -> None:
        self._polling, self._swapping = threading.Lock(), threading.Lock()
        self._opening: threading.Thread | None = None

    def newest(self) -> ReleaseState:
        """What to answer from; looks for what is newer where it is time to."""
        now = self._clock()
        if now >= self._next_poll and self._polling.acquire(blocking=False):
            try:
                self.poll(now)
            finally:
                self._polling.release()
        return self._state

    def refresh(self) -> None:
        """Look now, whatever the time, and wait until what was found is answered from or was given up.

        What is being opened may be live no more: it is waited for first.
        """
        self.settle()
        with self._polling:
            self._retry.clear()
            self.poll(self._clock())
        self.settle()

    def close(self) -> None:
        """Look no more, and wait for a release that is being opened."""
        with self._polling:
            self._closed = True
        self.settle()

    def settle(self) -> None:
        """Wait until a release that is being opened is answered from or was given up."""
        if (opening := self._opening) is not None:
            opening.join()

    def poll(self, now: float) -> None:
        """Look for updates of the index and for another live release; the caller holds the lock of polling."""
        if not self._closed:
            FORK_GUARD.run(lambda: self._poll(now))

    def _poll(self, now: float) -> None:
        self._next_poll = now + POLL_EVERY
        state = self._state
        self._attempt(f"updates of release {state.release.id}", now, lambda: self.swap(state, state.updated()))
        self._attempt("the rules", now, self._follow_rules)
        self._attempt("the live release's name", now, lambda: self._follow(now))

    def _follow_rules(self) -> None:
        if self._rules is None:
            return
        state = self._state
        rules = self._rules.poll(state.version, state.analyzer, state.rules)
        if rules is not state.rules:
            self.swap(state, replace(state, rules=rules))

    @property
    def rules_error(self) -> str:
        """What is wrong with the rules file, whose former rules stay in force; empty where nothing is."""
        return "" if self._rules is None else self._rules.error

    def _follow(self, now: float) -> None:
        name = self._switch.wanted()
        busy = self._opening is not None and self._opening.is_alive()
        if name is None or name == self._state.release.id or busy or now < self._retry.get(name, now):
            return
        self._opening = threading.Thread(target=self._open, args=(name, now), name=f"opening release {name}")
        self._opening.start()

    def _open(self, name: str, now: float) -> None:
        self._attempt(name, now, lambda: FORK_GUARD.run(self._open_warm))

    def _open_warm(self) -> None:
        before = self._state
        state = self._open_live(like=before)
        if self._rules is not None:
            state = replace(state, rules=self._rules.over(state.version, state.analyzer))
        warm_up(state)
        if not self._switch.ready(state.release.id):
            return
        self.swap(None, state)
        log.info("release %s answers in place of %s", state.release.id, before.release.id)

    def swap(self, before: ReleaseState | None, state: ReleaseState) -> None:
        """Answer from `state`, unless another release took the place of `before` meanwhile."""
        with self._swapping:
            if before is None or self._state is before:
                self._state = state

    def _attempt(self, what: str, now: float, step: Callable[[], None]) -> None:
        """Take a step; where it fails say so and leave it alone for a while."""
        if now < self._retry.get(what, now):
            return
        try:
            step()
        except Exception as error:  # whatever it is, requests are answered from what is open
            self._retry[what] = now + RETRY_AFTER
            known = isinstance(error, ShortlistError | OSError)
            going_on = f"{self._state.release.id} goes on answering"
            log.warning("%s: cannot be read: %s; %s", what, error, going_on, exc_info=None if known else error)
        else:
            self._retry.pop(what, None)


_RELOADERS: weakref.WeakSet[ReleaseReloader] = weakref.WeakSet()


def _after_fork() -> None:
    for reloader in list(_RELOADERS):
        reloader._begin()  # its locks may be held, and its release opened, by threads that the child does not have


os.register_at_fork(after_in_child=_after_fork)
