"""What is known of the users who ask, as of the moment when they ask: of n at once, one or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from ranking.features.facts import Does, does_of
from ranking.features.shortlists import EVENTS, ShopperEvents
from retrieval.data.time_units import DAY
from retrieval.data.timeline import HistoryBatch, Timeline, gap_buckets
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Mask, Rows
from serving.answering.user_store import UserStore

if TYPE_CHECKING:
    from serving.request import GivenEvent, Request

UNKNOWN = -1  # code of a kind of event that the towers do not know


@dataclass(frozen=True, kw_only=True)
class UserContexts:
    """What is known of the users of n requests."""

    histories: HistoryBatch  # [n, l], l >= 1: the newest events, as the user tower reads them
    behaviour: RequestBatch  # the same as candidate sources read it, over the whole history
    events: ShopperEvents  # the same as features read it
    now: NDArray[np.int64]  # [n] when each asks, microseconds since 1970, UTC
    taken: CSR  # item rows that each user took before
    given: CSR  # item rows that came with each request: a history in place of the user's own, a cart
    gap: NDArray[np.int64]  # [n] bucket of the time since the newest event
    unknown: NDArray[np.int64]  # [n] given items that the index does not hold
    named: Mask  # [n] whether the request names a user or gives items, known or not
    kinds: tuple[str, ...] = ()  # names of the histories' kinds of events, by code
    query_texts: Sequence[str] = ()  # of the histories' past queries, by code

    @classmethod
    def nobody(cls, n: int) -> UserContexts:
        """n requests of which nothing is known but what they ask for."""
        nothing = CSR.empty(n)
        missing, zeros = np.full((n, 1), -1, np.int64), np.zeros((n, 1), np.int64)
        return cls(
            histories=HistoryBatch(missing, missing, zeros, zeros, np.zeros((n, 1), bool)),
            behaviour=RequestBatch.of_texts([""] * n),
            events=ShopperEvents.none(n),
            now=zeros[:, 0],
            taken=nothing,
            given=nothing,
            gap=zeros[:, 0],
            unknown=zeros[:, 0],
            named=np.zeros(n, bool),
        )

    def select(self, part: NDArray[np.int64]) -> UserContexts:
        """The users of some requests, by position."""
        return replace(
            self,
            histories=self.histories.each(lambda column: column[part]),
            behaviour=self.behaviour.select(part),
            events=self.events.select(part),
            now=self.now[part],
            taken=self.taken.select(part),
            given=self.given.select(part),
            gap=self.gap[part],
            unknown=self.unknown[part],
            named=self.named[part],
        )

    @classmethod
    def join(cls, parts: Sequence[UserContexts]) -> UserContexts:
        """The users of several parts of one shop, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        behaviours = [part.behaviour for part in parts]
        return replace(
            parts[0],
            histories=HistoryBatch.join([part.histories for part in parts]),
            behaviour=RequestBatch.join(behaviours),
            events=ShopperEvents.join([part.events for part in parts]),
            now=np.concatenate([part.now for part in parts]),
            taken=CSR.join([part.taken for part in parts]),
            given=CSR.join([part.given for part in parts]),
            gap=np.concatenate([part.gap for part in parts]),
            unknown=np.concatenate([part.unknown for part in parts]),
            named=np.concatenate([part.named for part in parts]),
        )

    def then_given(self, rows: CSR, kind: int, longest: int) -> UserContexts:
        """The same users with item rows, a list for each, as the newest events of their histories, which they did now:
        events of `kind`, a code in `kinds`. At most `longest` events are read of a history."""
        cart = items_batch(rows, kind, longest)
        behaviour = self.behaviour._replace(
            history=CSR.concatenate([self.behaviour.history, rows]), taken=CSR.concatenate([self.behaviour.taken, rows])
        )
        return replace(
            self,
            histories=self.histories.followed_by(cart, longest),
            behaviour=behaviour,
            events=self.events.then(rows, kind, self.now),
            given=rows,
            gap=np.where(np.diff(rows.indptr) > 0, 0, self.gap),
            named=np.ones(rows.n_lists, bool),
        )


@dataclass(frozen=True)
class UserContextReader:
    """Reads the users of a release's store and given items over one index version. Safe to call from many threads."""

    version: IndexVersion
    store: UserStore
    longest: int  # newest events that the user tower reads
    targets: tuple[str, ...]  # kinds of events by which an item is taken; given items are read as the first by name

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
        """A user of the store; nothing is known of any other. n = 1."""
        known = user_id is not None and self.store.code(user_id) is not None
        return self.of_users([user_id]) if known else replace(self._nobody, named=np.array([user_id is not None]))

    def of_users(self, user_ids: Sequence[str | None]) -> UserContexts:
        """Users of the store, all at once; nothing is known of any other."""
        timeline, codes = self.store.timeline, self.store.codes(user_ids)
        users = np.maximum(codes, 0)
        ends = timeline.offsets[users + (codes >= 0)]
        now = np.repeat(self.today * DAY, len(codes))
        found = contexts_at(timeline, users, ends, now, longest=self.longest, targets=self._target_codes)
        return replace(
            found,
            taken=found.taken.distinct(),
            gap=np.where(codes >= 0, found.gap, 0),
            named=np.array([user_id is not None for user_id in user_ids], bool),
            query_texts=self.store.query_texts,
        )

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
        own, now = self._stored_timeline(request.user_id), self.today * DAY
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
        read = replace(read, behaviour=behaviour, query_texts=self.store.query_texts)
        if not cart:
            return read
        rows = self._rows_of([event.item_id for event in request.events])[0].rows
        given = CSR.from_lists([rows[~np.isin(rows, some)] for some in left_out])
        return read.then_given(given, self._given_kind, self.longest)

    def _stored_timeline(self, user_id: str | None) -> Timeline:
        """The events of one user of the store; none of any other."""
        timeline, code = self.store.timeline, None if user_id is None else self.store.code(user_id)
        own = slice(0, 0) if code is None else slice(timeline.offsets[code], timeline.offsets[code + 1])
        return replace(
            timeline,
            item=timeline.item[own],
            query=timeline.query[own],
            kind=timeline.kind[own],
            time=timeline.time[own],
            offsets=np.array([0, own.stop - own.start]),
        )

    def _given_timeline(self, events: Sequence[GivenEvent]) -> tuple[Timeline, NDArray[np.int64]]:
        """Given events on known items as the timeline of one user, those with times in the order of these, and when the
        user asks, int64 [1]."""
        found = self.version.rows_of([event.item_id for event in events])
        now = np.maximum(self.today * DAY, max((event.time for event in events if event.time is not None), default=0))
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
        """Whether a user of the store is known to have taken anything."""
        code = None if user_id is None else self.store.code(user_id)
        if code is None:
            return False
        timeline = self.store.timeline
        kinds = timeline.kind[timeline.offsets[code] : timeline.offsets[code + 1]]
        return bool(np.isin(kinds, self._target_codes).any())

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
            now=np.repeat(self.today * DAY, n),
            kinds=self.store.timeline.kinds,
            query_texts=self.store.query_texts,
        )

    def _rows_of(self, items: Sequence[str]) -> tuple[CSR, NDArray[np.int64]]:
        """The rows of given items as one list, and how many of them the index does not hold, int64 [1]."""
        found = self.version.rows_of(list(items))
        rows = found[found >= 0]
        return CSR(np.array([0, len(rows)]), rows), np.array([len(found) - len(rows)])


def contexts_at(
    timeline: Timeline,
    users: NDArray[np.integer],
    ends: NDArray[np.int64],
    now: NDArray[np.int64],
    *,
    longest: int,
    targets: Sequence[int],
) -> UserContexts:
    """Users as they were known at a moment: user `users[i]` with the events before the timeline's position `ends[i]`,
    asking at `now[i]`, int64 [n] in microseconds since 1970, UTC. `targets` are the codes of kinds by which an item is
    taken."""
    n = len(users)
    taken, nothing = timeline.items_before(users, ends, targets), UserContexts.nobody(n)
    return replace(
        nothing,
        histories=timeline.batch(users, ends, longest),
        behaviour=RequestBatch(
            timeline.items_before(users, ends),
            taken,
            timeline.items_browsed(users, ends, targets),
            timeline.items_carted(users, ends, _cart_codes(timeline.kinds, tuple(targets)), targets),
            now // DAY,
            [""] * n,
        ),
        events=ShopperEvents(*timeline.events_before(users, ends, EVENTS)),
        now=now,
        taken=taken,
        gap=gap_buckets(now - timeline.time[np.maximum(ends - 1, 0)]) if len(timeline.time) else nothing.gap,
        named=np.ones(n, bool),
        kinds=timeline.kinds,
    )


@lru_cache(64)
def _cart_codes(kinds: tuple[str, ...], targets: tuple[int, ...]) -> tuple[int, ...]:
    """The codes of the kinds of events by which an item is put in the cart and not yet taken."""
    return tuple(c for c, kind in enumerate(kinds) if c not in targets and does_of(kind, ()) == Does.CART)


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


def items_batch(rows: CSR, kind: int, longest: int) -> HistoryBatch:
    """The newest `longest` rows of each list as a history of events of one kind (its code, -1: unknown), done at once.

    >>> items_batch(CSR.from_lists([[7, 3], []]), 0, longest=5).items.tolist()
    [[7, 3], [-1, -1]]
    """
    sizes = np.minimum(np.diff(rows.indptr), longest)
    length = max(1, int(sizes.max(initial=0)))
    index = rows.indptr[1:, None] - np.arange(length, 0, -1)
    present = np.arange(length, 0, -1) <= sizes[:, None]
    items = np.full(present.shape, -1, np.int64)
    items[present] = rows.rows[index[present]]
    zeros = np.zeros_like(items)
    return HistoryBatch(items, np.full_like(items, -1), np.where(present, 1 + kind, 0), zeros, present)
