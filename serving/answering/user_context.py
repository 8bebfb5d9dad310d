"""What is known of the users who ask, as of the moment when they ask: of n at once, one or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import Does, does_of
from ranking.features.shortlists import EVENTS, ShopperEvents
from retrieval.data.time_units import DAY
from retrieval.data.timeline import HistoryBatch, Timeline, gap_buckets
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Mask
from serving.answering.recorded.timelines import QueryTexts

if TYPE_CHECKING:
    pass


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
        histories, query_texts = _joined_histories(parts)
        return replace(
            parts[0],
            histories=histories,
            behaviour=RequestBatch.join(behaviours),
            events=ShopperEvents.join([part.events for part in parts]),
            now=np.concatenate([part.now for part in parts]),
            taken=CSR.join([part.taken for part in parts]),
            given=CSR.join([part.given for part in parts]),
            gap=np.concatenate([part.gap for part in parts]),
            unknown=np.concatenate([part.unknown for part in parts]),
            named=np.concatenate([part.named for part in parts]),
            query_texts=query_texts,
        )

    def then_given(self, rows: CSR, kind: int, longest: int) -> UserContexts:
        """The same users with item rows, a list for each, as the newest events of their histories, which they did now:
        events of `kind`, a code in `kinds`. At most `longest` events are read of a history."""
        cart = items_batch(rows, kind, longest)
        behaviour = self.behaviour._replace(
            history=CSR.concatenate([self.behaviour.history, rows]),
            taken=CSR.concatenate([self.behaviour.taken, rows]),
            cart=rows,
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


def _joined_histories(parts: Sequence[UserContexts]) -> tuple[HistoryBatch, Sequence[str]]:
    """The histories of several parts, and the texts of their queries: those of the release, then each part's own."""
    known, own, histories = parts[0].query_texts, list[str](), []
    for part in parts:
        texts, batch = part.query_texts, part.histories
        if isinstance(texts, QueryTexts):
            known = texts.known
            later = np.where(batch.queries >= len(known), batch.queries + len(own), batch.queries)
            batch, own = batch._replace(queries=later), [*own, *texts.own]
        histories.append(batch)
    known = known.known if isinstance(known, QueryTexts) else known
    return HistoryBatch.join(histories), QueryTexts(known, own) if own else known


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
    taken, nothing = timeline.items_taken(users, ends, targets), UserContexts.nobody(n)
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
            nothing.given,
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
