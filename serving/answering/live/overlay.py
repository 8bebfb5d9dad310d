"""A release's state with everything that was recorded since its data: what answers where events are recorded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from indexing.bundle.bundle import Bundle
from retrieval.errors import ShortlistError
from retrieval.sources.protocols import CandidateSource
from retrieval.sources.registry import LaterTakings, source_specs
from serving.answering.forked import FORK_GUARD
from serving.answering.live.counters import LiveCounters, popularity
from serving.answering.live.forget import Forgets, Forgotten, RecordedEventsForget, ReleasesForget, forget_user
from serving.answering.recorded.users import LiveUsers
from serving.answering.release_state import ReleaseState
from serving.live.events import RecordedEvent
from serving.live.opening import open_store
from serving.live.store import EventStore

AT_ONCE = 10_000  # events that are read from a store at once
QUICK = 0.002  # seconds; counting that takes longer pauses for PAUSE times as long
PAUSE = 10
RETRY_AFTER = 5.0  # seconds, of a store that could not be read

log = logging.getLogger(__name__)


class LiveShoppers:
    """Adds the events of a store to the states of releases. Safe to use from many threads, and after a fork.

    A shopper's own events count for the next request, in whatever process they were recorded. So do the counts of all
    shoppers' events, unless there is so much to count that a tenth of the time would not be enough. `places` are where
    a user is to be forgotten.
    """

    def __init__(self, events: EventStore, places: Sequence[Forgets] = ()) -> None:
        self.events, self.places = events, places
        FORK_GUARD.close_before_fork(events)
        self._counting = threading.Lock()
        self._made: tuple[ReleaseState, LiveCounters, ReleaseState] | None = None  # of which state, and what answers
        self._prepared: tuple[ReleaseState, LiveCounters] | None = None
        self._next = 0.0  # when to look for new events

    @classmethod
    def of(cls, bundle: Bundle, place: str | Path | None, *others: Forgets) -> Self:
        """Those of a bundle, their events kept at a place: see `open_store`. A user is to be forgotten in `others`,
        too."""
        events = open_store(place, bundle.path)
        return cls(events, (RecordedEventsForget(events), ReleasesForget(bundle), *others))

    def record(self, events: Sequence[RecordedEvent]) -> int:
        """Keep events; returns how many are new."""
        return FORK_GUARD.run(lambda: self.events.append(events)) if events else 0

    def forget(self, user_id: object, at: int) -> Forgotten:
        """Remove a user from every place, as of a time, microseconds since 1970."""
        return FORK_GUARD.run(lambda: forget_user(user_id, at, self.places))

    def over(self, state: ReleaseState, *, at_once: bool = False) -> ReleaseState:
        """The state with what was recorded since its data; itself where nothing was. `at_once`: however much there is
        to count."""
        try:
            if self._made is None and not self.events.exists():
                return state
            wait = at_once or self._made is None
            if (wait or time.monotonic() >= self._next) and self._counting.acquire(blocking=wait):
                try:
                    self._count(state)
                finally:
                    self._counting.release()
        except ShortlistError as error:
            self._next = time.monotonic() + RETRY_AFTER
            log.warning("answering without newer events: %s", error)
        made = self._made
        return state if made is None or made[0].release is not state.release else made[2]

    def prepare(self, state: ReleaseState) -> ReleaseState:
        """Counts what was recorded since a state's data before it answers; returns the state."""
        try:
            if self.events.exists():
                counters = self._counters(state)
                self._count_new(state, counters)
                self._prepared = state, counters
        except ShortlistError as error:
            log.warning("release %s is opened without recorded events: %s", state.release.id, error)
        return state

    def close(self) -> None:
        """Closes the store, once nothing is being counted."""
        with self._counting:
            self.events.close()

    def _count(self, state: ReleaseState) -> None:
        begun = time.monotonic()
        counters = self._known_counters(state)
        fresh = self._count_new(state, counters)
        if self._made is None or self._made[0] is not state or fresh:
            self._made = state, counters, self._joined(state, counters)
        took = time.monotonic() - begun
        self._next = begun + took * PAUSE if took > QUICK else 0.0

    def _known_counters(self, state: ReleaseState) -> LiveCounters:
        """The counters of a state's release, whatever updates its index has had."""
        if self._made is not None and self._made[0].user_store is state.user_store:
            return self._made[1]
        if self._prepared is not None and self._prepared[0].user_store is state.user_store:
            return self._prepared[1]
        return self._counters(state)

    def _counters(self, state: ReleaseState) -> LiveCounters:
        return LiveCounters(self.events, self._read_up_to(state), state.user_store, state.settings.targets)

    def _read_up_to(self, state: ReleaseState) -> int:
        """The position in the store up to which a release holds its events; 0 where it read another store, or none."""
        read = state.settings.events_read
        return read.position if read is not None and read.store == self.events.identity() else 0

    def _count_new(self, state: ReleaseState, counters: LiveCounters) -> bool:
        """Whether there was anything new to count."""
        before = counters.position
        while found := self.events.since(counters.position, AT_ONCE):
            counters.add(state.version, found)
        return counters.position > before

    def _joined(self, state: ReleaseState, counters: LiveCounters) -> ReleaseState:
        version, retriever = state.version, state.retriever
        later = counters.takings(version)
        sources, taken = ContinuedSources(retriever.sources, later), popularity(retriever.popularity, later)
        return state.with_live(
            LiveUsers(self.events, self._read_up_to(state), counters.now),
            replace(retriever, popularity=taken, sources=sources),
            lambda known: counters.facts(known, version),
        )


class ContinuedSources(Mapping[str, CandidateSource]):
    """The sources of a release, those that can with what was taken since; each is made when it is first read."""

    def __init__(self, known: Mapping[str, CandidateSource], later: LaterTakings) -> None:
        self._known, self._later = known, later
        self._made: dict[str, CandidateSource] = {}

    def __getitem__(self, name: str) -> CandidateSource:
        continued = _continued().get(name)
        if continued is None or name not in self._known:
            return self._known[name]
        if name not in self._made:
            self._made[name] = continued(self._known[name], self._later)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@cache
def _continued() -> dict[str, Callable[[Any, LaterTakings], CandidateSource]]:
    """What continues a source, by its name."""
    return {spec.name: spec.continued for spec in source_specs() if spec.continued is not None}
