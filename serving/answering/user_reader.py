"""Reads what is known of the users who ask: of the release, of what was recorded since, and of what comes with a
request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from retrieval.data.time_units import DAY
from retrieval.data.timeline import Timeline
from retrieval.topk import CSR, Rows
from serving.answering.recorded.timelines import UserTimeline, user_timeline
from serving.answering.recorded.users import LiveUsers
from serving.answering.user_context import UserContexts, contexts_at
from serving.answering.user_store import UserStore

if TYPE_CHECKING:
    from serving.request import GivenEvent, Request

UNKNOWN = -1  # code of a kind of event that the towers do not know


@dataclass(frozen=True)
class UserContextReader:
    """Reads the users of a release's store and given items over one index version. Safe to call from many threads."""

    version: IndexVersion
    store: UserStore
    longest: int  # newest events that the user tower reads
    targets: tuple[str, ...]  # kinds of events by which an item is taken; given items are read as the first by name
    live: LiveUsers | None = None  # what was recorded since; None: nothing

    def of_requests(self, requests: Sequence[Request]) -> UserContexts:
        """Who asks each of several requests; users of the store are read together."""
        stored = np.array([request.history is None for request in requests], bool)
        if len(requests) == 1 or not stored.any():
            return UserContexts.join([self.of_request(request) for request in requests])
        parts = [self.of_users([request.user_id for request in requests if request.history is None])]
        parts += [self.of_request(request) for request in requests if request.history is not None]
        return UserContexts.join(parts).select(np.argsort(np.argsort(~stored, kind="stable")))

    def of_request(self, request: Request) -> UserContexts:
        """Who asks: items that are given stand in for the user's own history, or follow it where they are a cart."""
        if request.history is None:
            return self.of_user(request.user_id)
        if request.task == "complete_cart":
            return self.of_cart([event.item_id for event in request.events], request.user_id)
        return self.of_events(request.events)

    def of_user(self, user_id: str | None) -> UserContexts:
        """A user of the store, with what was recorded since; nothing is known of any other. n = 1."""
        if (own := self._recorded(user_id)) is not None:
            return self._of_timeline(own)
        known = user_id is not None and self.store.code(user_id) is not None
        return self._of_store([user_id]) if known else replace(self._nobody, named=np.array([user_id is not None]))

    def of_users(self, user_ids: Sequence[str | None]) -> UserContexts:
        """Users of the store, with what was recorded since; nothing is known of any other."""
        own = [self._recorded(user_id) for user_id in user_ids] if self.live is not None else []
        if not any(own):
            return self._of_store(user_ids)
        stored = np.array([one is None for one in own], bool)
        parts = [self._of_store([user_id for user_id, one in zip(user_ids, own, strict=True) if one is None])]
        parts += [self._of_timeline(one) for one in own if one is not None]
        return UserContexts.join(parts).select(np.argsort(np.argsort(~stored, kind="stable")))

    def _of_store(self, user_ids: Sequence[str | None]) -> UserContexts:
        """Users as the store has them."""
        timeline, codes = self.store.timeline, self.store.codes(user_ids)
        users = np.maximum(codes, 0)
        ends = timeline.offsets[users + (codes >= 0)]
        found = self._as_of(timeline, users, ends, np.repeat(self.now, len(codes)))
        return replace(
            found,
            gap=np.where(codes >= 0, found.gap, 0),
            named=np.array([user_id is not None for user_id in user_ids], bool),
            query_texts=self.store.query_texts,
        )

    def _of_timeline(self, own: UserTimeline) -> UserContexts:
        """A user with a timeline of one's own; n = 1."""
        timeline, query_texts = own
        if not len(timeline.item):
            return replace(self._nobody, named=np.ones(1, bool))
        now = np.maximum(self.now, timeline.time[-1] + 1)
        found = self._as_of(timeline, np.zeros(1, np.int64), timeline.offsets[1:], now)
        return replace(found, query_texts=query_texts)

    def _as_of(
        self, timeline: Timeline, users: NDArray[np.int64], ends: NDArray[np.int64], now: NDArray[np.int64]
    ) -> UserContexts:
        found = contexts_at(timeline, users, ends, now, longest=self.longest, targets=self._target_codes)
        day = np.repeat(self.today, len(ends))  # what is counted by days is counted up to the release's last
        return replace(found, behaviour=found.behaviour._replace(day=day), taken=found.taken.distinct())

    def has_recorded(self, user_id: str | None) -> bool:
        """Whether anything was recorded of a user since the release's data."""
        return self._recorded(user_id) is not None

    def _recorded(self, user_id: str | None) -> UserTimeline | None:
        """All events of a user of whom anything was recorded since the release; None of any other."""
        if self.live is None or user_id is None:
            return None
        since = self.live.of(user_id)
        if not since.events and since.forgotten_at is None:
            return None
        return user_timeline(self.store, self.version, self._target_codes, user_id, since)

    def of_events(self, events: Sequence[GivenEvent]) -> UserContexts:
        """Given events, oldest first, read as stored ones: as of the newest of their times, or of today where that is
        later. What is unknown of an event stands as in `GivenEvent`; unknown items are passed over. n = 1."""
        rows, unknown = self._rows_of([event.item_id for event in events])
        timeline, now = self._given_timeline(events)
        user, end, targets = np.zeros(1, np.int64), timeline.offsets[1:], self._given_targets
        read = contexts_at(timeline, user, end, now, longest=self.longest, targets=targets)
        return replace(
            read,
            behaviour=read.behaviour._replace(day=self.today),  # what other shoppers did later is not known
            taken=CSR.from_lists([np.unique(read.taken.rows)]),
            given=rows,
            unknown=unknown,
            query_texts=self.store.query_texts,
        )

    def without(self, request: Request, left_out: Sequence[Rows]) -> UserContexts:
        """Who asks, n times over, each time without the events on some items, whose rows are `left_out` [n]: otherwise
        as `of_request` reads them, as of the same time."""
        n, cart = len(left_out), request.task == "complete_cart"
        own, query_texts = self.timeline_of(request.user_id)
        now = np.maximum(self.now, own.time.max(initial=0) + 1)
        if request.history is not None and not cart:
            own, now = self._given_timeline(request.events)
        kept = np.array([~np.isin(own.item, rows) for rows in left_out])
        at, offsets = np.nonzero(kept)[1], np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
        timeline = replace(
            own, item=own.item[at], query=own.query[at], kind=own.kind[at], time=own.time[at], offsets=offsets
        )
        targets = self._target_codes if request.history is None or cart else self._given_targets
        users, times = np.arange(n), np.repeat(now, n)
        read = contexts_at(timeline, users, offsets[1:], times, longest=self.longest, targets=targets)
        behaviour = read.behaviour._replace(day=np.repeat(self.today, n))
        read = replace(read, behaviour=behaviour, query_texts=query_texts)
        if not cart:
            return read
        rows = self._rows_of([event.item_id for event in request.events])[0].rows
        given = CSR.from_lists([rows[~np.isin(rows, some)] for some in left_out])
        return read.then_given(given, self._given_kind, self.longest)

    def timeline_of(self, user_id: str | None) -> UserTimeline:
        """The events of one user of the store, with what was recorded since; none of any other."""
        if (recorded := self._recorded(user_id)) is not None:
            return recorded
        timeline, code = self.store.timeline, None if user_id is None else self.store.code(user_id)
        own = slice(0, 0) if code is None else slice(timeline.offsets[code], timeline.offsets[code + 1])
        alone = replace(
            timeline,
            item=timeline.item[own],
            query=timeline.query[own],
            kind=timeline.kind[own],
            time=timeline.time[own],
            offsets=np.array([0, own.stop - own.start]),
        )
        return UserTimeline(alone, self.store.query_texts)

    def _given_timeline(self, events: Sequence[GivenEvent]) -> tuple[Timeline, NDArray[np.int64]]:
        """Given events on known items as the timeline of one user, those with times in the order of these, and when the
        user asks, int64 [1]."""
        found = self.version.rows_of([event.item_id for event in events])
        now = np.maximum(self.now, max((event.time for event in events if event.time is not None), default=0))
        known = [event for event, row in zip(events, found.tolist(), strict=True) if row >= 0]
        return self._timeline(found[found >= 0], known, int(now[0])), now

    def _timeline(self, rows: NDArray[np.int64], events: Sequence[GivenEvent], now: int) -> Timeline:
        """Events on item rows as the timeline of one user who asks at `now`."""
        code_of = {kind: code for code, kind in enumerate(self.store.timeline.kinds)}
        kind = [self._given_kind if one.event is None else code_of.get(one.event, UNKNOWN) for one in events]
        time = _filled([one.time for one in events], now)
        order = np.argsort(time, kind="stable")
        return Timeline(
            item=rows[order].astype(np.int32),
            query=np.full(len(rows), -1, np.int32),
            kind=np.array(kind, np.int16)[order],
            time=time[order],
            offsets=np.array([0, len(rows)]),
            kinds=self.store.timeline.kinds,
        )

    def of_cart(self, items: Sequence[str], user_id: str | None) -> UserContexts:
        """A user's history followed by a cart; `taken` is the user's. n = 1."""
        rows, unknown = self._rows_of(items)
        return replace(self.of_user(user_id).then_given(rows, self._given_kind, self.longest), unknown=unknown)

    def has_taken(self, user_id: str | None) -> bool:
        """Whether a user is known to have taken anything."""
        return bool(np.isin(self.timeline_of(user_id).timeline.kind, self._target_codes).any())

    @cached_property
    def now(self) -> NDArray[np.int64]:
        """When requests are made, microseconds since 1970, UTC, int64 [1]: the day after the store's last event, or
        after the newest that was recorded."""
        return self.today * DAY if self.live is None else np.array([self.live.now])

    @cached_property
    def today(self) -> NDArray[np.int64]:
        """That of the store, int64 [1]."""
        return np.array([self.store.today])

    @cached_property
    def _target_codes(self) -> tuple[int, ...]:
        return self.store.timeline.codes_of(self.targets)

    @property
    def _given_kind(self) -> int:
        return next(iter(self._target_codes), UNKNOWN)

    @property
    def taking_codes(self) -> tuple[int, ...]:
        """The codes of the events by which stored and given items are taken."""
        return self._given_targets

    @property
    def _given_targets(self) -> tuple[int, ...]:
        """The codes by which a given item is taken: in a shop without events all are."""
        return self._target_codes or (UNKNOWN,)

    @cached_property
    def _nobody(self) -> UserContexts:
        return self.of_nobody(1)

    def of_nobody(self, n: int) -> UserContexts:
        """n requests of which nothing is known, asked today."""
        nobody = UserContexts.nobody(n)
        return replace(
            nobody,
            behaviour=nobody.behaviour._replace(day=np.repeat(self.today, n)),
            now=np.repeat(self.now, n),
            kinds=self.store.timeline.kinds,
            query_texts=self.store.query_texts,
        )

    def _rows_of(self, items: Sequence[str]) -> tuple[CSR, NDArray[np.int64]]:
        """The rows of given items as one list, and how many of them the index does not hold, int64 [1]."""
        found = self.version.rows_of(list(items))
        rows = found[found >= 0]
        return CSR(np.array([0, len(rows)]), rows), np.array([len(found) - len(rows)])


def _filled(times: Sequence[int | None], now: int) -> NDArray[np.int64]:
    """Times without those that are absent: such an event happened when the one before it did, before the first with a
    time when that did; all `now` where there is none, int64 [n].

    >>> _filled([None, 3, None, 5], 9).tolist(), _filled([None], 9).tolist()
    ([3, 3, 3, 5], [9])
    """
    found, time = [], next((one for one in times if one is not None), now)
    for one in times:
        time = time if one is None else one
        found.append(time)
    return np.array(found, np.int64)
