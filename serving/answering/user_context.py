"""Who asks: a known shopper or given items, as the user tower reads them, and what they took before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from retrieval.data.time_units import DAY
from retrieval.data.timeline import HistoryBatch, gap_buckets
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Rows
from serving.answering.user_store import Shoppers


class UserContext(NamedTuple):
    """What is known of one who asks."""

    batch: HistoryBatch  # [1, l], l >= 1; nothing present where nothing is known
    taken: Rows  # item rows that were taken before, each once, over the whole history
    unknown: int  # given items that the index does not hold
    asked: RequestBatch  # the same as candidate sources read it
    gap: NDArray[np.int64]  # [1] bucket of the time since the newest event


@dataclass(frozen=True)
class Histories:
    """Reads shoppers and given items over one index version. Safe to call from many threads."""

    version: IndexVersion
    shoppers: Shoppers
    longest: int  # newest events that the user tower reads
    targets: tuple[str, ...]  # kinds of events by which an item is taken; given items are read as the first by name

    def of_shopper(self, user_id: str | None) -> UserContext:
        """A shopper of the release; nothing is known of any other."""
        code = None if user_id is None else self.shoppers.code(user_id)
        if code is None:
            return self.of_items(())
        timeline, user = self.shoppers.timeline, np.array([code])
        end = timeline.offsets[code + 1 : code + 2]
        codes = timeline.codes_of(self.targets)
        taken, left = timeline.items_before(user, end, codes), timeline.items_browsed(user, end, codes)
        asked = RequestBatch(timeline.items_before(user, end), taken, left, self.today, [""])
        since = self.today * DAY - timeline.time[np.maximum(end - 1, 0)]
        return UserContext(timeline.batch(user, end, self.longest), np.unique(taken.rows), 0, asked, gap_buckets(since))

    def of_items(self, items: Sequence[str]) -> UserContext:
        """Given items, oldest first, read as taken one right after the other; unknown ones are passed over."""
        found = self.version.rows_of(list(items))
        rows = found[found >= 0]
        newest = rows[-self.longest :][None, :] if len(rows) else np.full((1, 1), -1, np.int64)
        present = newest >= 0
        codes = np.where(present, 1 + next(iter(self.shoppers.timeline.codes_of(self.targets)), -1), 0)
        batch = HistoryBatch(newest, np.full_like(newest, -1), codes, np.zeros_like(newest), present)
        lists = CSR.from_lists([rows])
        asked = RequestBatch(lists, lists, CSR.from_lists([[]]), self.today, [""])
        return UserContext(batch, np.unique(rows), len(found) - len(rows), asked, np.zeros(1, np.int64))

    def of_cart(self, items: Sequence[str], user_id: str | None) -> UserContext:
        """A shopper's history followed by a cart; `taken` is the shopper's."""
        before, cart = self.of_shopper(user_id), self.of_items(items)
        if not before.batch.present.any():
            return cart._replace(taken=before.taken)
        if not cart.batch.present.any():
            return before._replace(unknown=cart.unknown)
        columns = (np.hstack(pair)[:, -self.longest :] for pair in zip(before.batch, cart.batch, strict=True))
        history, taken = (
            CSR.from_lists([np.concatenate([lists.rows, cart.asked.history.rows])])
            for lists in (before.asked.history, before.asked.taken)
        )
        asked = before.asked._replace(history=history, taken=taken)
        return UserContext(HistoryBatch(*columns), before.taken, cart.unknown, asked, cart.gap)

    @cached_property
    def today(self) -> NDArray[np.int64]:
        """That of the shoppers, int64 [1]."""
        return np.array([self.shoppers.today])
