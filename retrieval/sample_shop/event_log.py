"""The events of a generated shop, as they are drawn and as `events.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.sample_shop.stock import Shop

__all__ = ["DAY", "Event", "Visit", "Visitors", "events_table", "log_of_visits"]

DAY = 86_400  # seconds
Memory = TypeVar("Memory")
FIRST_VISITS = 20  # visits that the expected number of events in a visit counts for


class Event(NamedTuple):
    """One event of a shopper, `second` seconds after the first midnight; a visit has at most one basket."""

    second: int
    shopper: int
    item: int
    kind: str
    session: int
    query: str | None = None
    basket: int | None = None
    quantity: int | None = None


@dataclass(kw_only=True)
class Visit:
    """A visit as it goes on: `second` is now, `events` what happened so far."""

    shopper: int
    session: int
    second: int
    events: list[Event]

    @property
    def day(self) -> float:
        """Now, in days since the first midnight."""
        return self.second / DAY

    def add(self, kind: str, item: int, wait: int, query: str | None = None) -> None:
        """One event with an item, `wait` seconds after the last."""
        self.second += wait
        self.events.append(Event(self.second, self.shopper, item, kind, self.session, query))

    def buy(self, item: int, quantity: int) -> None:
        """One item of the visit's basket, now."""
        self.events.append(
            Event(self.second, self.shopper, item, "purchase", self.session, None, self.session, quantity)
        )

    def send_back(self, item: int, quantity: int, second: int) -> None:
        """The return, at a later time, of an item of this visit's basket."""
        self.events.append(Event(second, self.shopper, item, "return", self.session, None, self.session, quantity))


def events_table(events: Sequence[Event], shop: Shop, midnight: datetime, days: int) -> pa.Table:
    """`events.parquet` of what happened within the days, in the order of time; ids are the visit's number."""
    events = sorted((event for event in events if event.second < days * DAY), key=lambda event: event.second)
    first = int(midnight.timestamp())
    paid = [None if event.basket is None else float(shop.price[event.item]) for event in events]
    baskets = [None if event.basket is None else f"basket-{event.basket:06d}" for event in events]
    microseconds = [(first + event.second) * 1_000_000 for event in events]
    return pa.table(
        {
            "user_id": [f"shopper-{event.shopper:05d}" for event in events],
            "item_id": [shop.ids[event.item] for event in events],
            "event": [event.kind for event in events],
            "timestamp": pa.array(microseconds, pa.timestamp("us", tz="UTC")),
            "quantity": pa.array([event.quantity for event in events], pa.int32()),
            "price": pa.array(paid, pa.float64()),
            "basket_id": pa.array(baskets, pa.string()),
            "session_id": [f"visit-{event.session:06d}" for event in events],
            "query": pa.array([event.query for event in events], pa.string()),
        }
    )


class Visitors(Protocol[Memory]):
    """Draws the visits of a crowd to a shop; `Memory` is what a shopper carries from one visit to the next."""

    def newcomer(self, shopper: int) -> Memory:
        """What a shopper brings to the first visit."""
        ...

    def arrivals(self, n: int, memory: Memory) -> NDArray[np.int64]:
        """Seconds of `n` visits as planned, ascending."""
        ...

    def next_visit(self, memory: Memory, last: int, planned: int) -> int:
        """The second of the next visit, after that of the last."""
        ...

    def visit(self, visit: Visit, memory: Memory) -> None:
        """Adds the events of one visit."""
        ...


def log_of_visits(
    visitors: Visitors[Memory],
    rng: np.random.Generator,
    wanted: int,
    per_visit: float,
    activity: NDArray[np.float64],
) -> list[Event]:
    """About `wanted` events, shopper by shopper; every shopper has at least one visit. Other arguments as in
    `_visits_of`."""
    log: list[Event] = []
    session = 0
    for shopper, n in enumerate(_visits_of(rng, log, wanted, per_visit, activity)):
        memory, second = visitors.newcomer(shopper), -DAY
        for planned in visitors.arrivals(n, memory):
            second = visitors.next_visit(memory, second, int(planned))
            visitors.visit(Visit(shopper=shopper, session=session, second=second, events=log), memory)
            session += 1
    return log


def _visits_of(
    rng: np.random.Generator, log: Sequence[Event], wanted: int, per_visit: float, activity: NDArray[np.float64]
) -> Iterator[int]:
    """How many visits each shopper in turn makes, at least one, for about `wanted` events in all.

    `log` is where the visits' events go: a shop with few items holds fewer events in a visit than `per_visit`, so the
    mean of the visits so far counts. `activity` float64 [n_shoppers] sums to 1.
    """
    visits, after = 0, 1.0
    for shopper, share in enumerate(activity):
        mean = (len(log) + FIRST_VISITS * per_visit) / (visits + FIRST_VISITS)
        spare = (wanted - len(log)) / mean - (len(activity) - shopper)
        n = 1 + int(max(0.0, spare) * min(1.0, share / after) + rng.random())
        visits, after = visits + n, after - share
        yield n
