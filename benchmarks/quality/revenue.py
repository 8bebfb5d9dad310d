"""The events that requests' targets come from: their kind, and their value to the shop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.metrics.ranking import Values
from retrieval.topk import CSR

Positions = NDArray[np.int64]


class TargetEvents:
    """The event of each target: the first of the request's user with that item, at or after the request."""

    def __init__(self, events: Events, requests: Requests, kinds: tuple[str, ...], targets: CSR) -> None:
        """targets: item rows of each request, all or some of its own. kinds: of events that count as targets."""
        self._events = events
        target = np.flatnonzero(events.is_kind(kinds))
        self._order = target[np.lexsort((target, events.item[target], events.user[target]))]
        self.event = self._first(requests.user[targets.owners], targets.rows, requests.end[targets.owners])

    def kinds(self) -> NDArray[np.int16]:
        """The kind of event of each target, int16 [n_targets], -1 where no event is found."""
        return np.where(self.event >= 0, self._events.kind[self.event], np.int16(-1))

    def worth(self, prices: Values, rows: Positions) -> Values:
        """The value of each target, float64 [n_targets]: price times quantity, summed over its events in one basket.

        prices is float64 [n_items], the catalogue's, for events without a price; nan where neither has one.
        """
        events, order = self._events, self._order
        price = events.price[order].astype(np.float64)
        paid = np.where(np.isnan(price), prices[events.item[order]], price) * events.quantity[order]
        basket = self._baskets()
        sums = np.bincount(basket, paid)
        place = np.empty(len(events), np.int64)
        place[order] = basket
        found = self.event >= 0
        worth = prices[rows]
        worth[found] = sums[place[self.event[found]]]
        return worth

    def _first(self, user: NDArray[np.integer], item: Positions, start: Positions) -> Positions:
        """The first event of a user with an item that is not before position `start`, -1 where there is none."""
        events, order = self._events, self._order
        known = events.user[order].astype(np.int64) << 32 | events.item[order]
        pairs, first = np.unique(known, return_index=True)
        wanted = user.astype(np.int64) << 32 | item
        at = np.minimum(np.searchsorted(pairs, wanted), max(len(pairs) - 1, 0))
        there = pairs[at] == wanted if len(pairs) else np.zeros(len(wanted), bool)
        number = np.repeat(np.arange(len(pairs)), np.diff(np.append(first, len(order))))
        place = np.searchsorted(number * len(events) + order, at * len(events) + start)
        held = np.append(number, -1)[np.minimum(place, len(number))]
        return np.where(there & (held == at), np.append(order, -1)[np.minimum(place, len(order))], -1)

    def _baskets(self) -> Positions:
        """A number for each group of events of one user and item in one basket or at one time, int64 [n_order]."""
        events, order = self._events, self._order
        left, right = order[:-1], order[1:]
        same = (events.user[left] == events.user[right]) & (events.item[left] == events.item[right])
        basket = (events.basket[left] == events.basket[right]) & (events.basket[left] >= 0)
        together = events.has_baskets & same & ((events.time[left] == events.time[right]) | basket)
        return np.concatenate(([0], np.cumsum(~together)))[: len(order)].astype(np.int64)


def prices_of(items: pa.Table) -> Values:
    """The catalogue's prices, float64 [n_items], nan where an item has none."""
    if "price" not in items.column_names:
        return np.full(items.num_rows, np.nan)
    found: Values = items["price"].cast(pa.float64()).to_numpy()
    return found
