"""An event as it is recorded while the engine answers: the columns of events.parquet, checked, and an id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from time import time_ns
from typing import Any, NamedTuple, TypedDict

from retrieval.data.event_kinds import Meaning, meaning
from retrieval.data.events import kind_read
from retrieval.data.time_units import SECOND
from retrieval.errors import BadRequest
from serving.request import read_time

CLOCK_SKEW = 300 * SECOND  # how far the clocks of a shop's machines may be apart
LONGEST_ID, LONGEST_QUERY = 1_000, 10_000  # characters
LARGEST = 1e30
GAINS = (Meaning.CART, Meaning.CHECKOUT, Meaning.FAVOURITE)  # of which less than nothing means nothing


class RecordedEvent(NamedTuple):
    """One event of a shopper. `event_id` tells it from all others: an event whose id is stored is not stored again."""

    event_id: str
    user_id: str
    item_id: str
    event: str  # its kind, as in the data
    time: int  # microseconds since 1970, UTC
    quantity: float | None = None  # below 0 of a purchase: a return
    price: float | None = None
    basket_id: str | None = None
    query: str | None = None  # the search that led to it
    rating: float | None = None

    @property
    def kind(self) -> str:
        """Its kind as it is read: `return` for a purchase of less than nothing, as in the data."""
        return kind_read(self.event, self.quantity)

    @property
    def is_return(self) -> bool:
        """Whether it undoes a purchase."""
        return meaning(self.kind) is Meaning.RETURN


class EventDetails(TypedDict, total=False):
    """What an event may have beside its user, item, kind and time; see RecordedEvent."""

    event_id: str | None
    quantity: float | None
    price: float | None
    basket_id: str | None
    query: str | None
    rating: float | None


OPTIONAL = tuple(EventDetails.__annotations__)
REQUIRED = ("user_id", "item_id", "event")


def recorded_event(given: Mapping[str, Any], now: int, where: str = "") -> RecordedEvent:
    """A checked event out of the arguments of `Engine.record`, by name.

    now: microseconds since 1970, the time of an event without a timestamp. where: what an error begins with, such as
    `event 3: `. Without an `event_id` the id is made of all the rest, so that the same event with the same timestamp
    is stored once however often it is sent. Raises BadRequest, naming what is wrong.
    """
    if not isinstance(given, Mapping):
        raise BadRequest(f"{where}is {given!r:.80}; give a mapping of user_id, item_id, event, timestamp, ...")
    unknown = sorted(map(str, given.keys() - {*REQUIRED, "timestamp", *OPTIONAL}))
    if unknown:
        known = ", ".join((*REQUIRED, "timestamp", *OPTIONAL))
        raise BadRequest(f"{where}has {', '.join(unknown)}, which no event has; it may have {known}")
    user, item, event = (_text(given.get(name), name, where, LONGEST_ID) for name in REQUIRED)
    event = event.strip()
    quantity = _number(given.get("quantity"), "quantity", where, signed=True)
    if quantity is not None and quantity < 0 and meaning(event) in GAINS:
        raise BadRequest(f"{where}quantity is {quantity:g} of {event}, which takes nothing back; give 0 or more")
    signed = meaning(kind_read(event, quantity)) is Meaning.RETURN
    price = _number(given.get("price"), "price", where, signed=signed)
    when = given.get("timestamp")
    found = RecordedEvent(
        event_id="",
        user_id=user,
        item_id=item,
        event=event,
        time=now if when is None else _time(when, now, where),
        quantity=quantity,
        price=price,
        basket_id=_optional(given, "basket_id", where, LONGEST_ID),
        query=_optional(given, "query", where, LONGEST_QUERY),
        rating=_number(given.get("rating"), "rating", where),
    )
    named = _optional(given, "event_id", where, LONGEST_ID)
    return found._replace(event_id=_id_of(found) if named is None else named)


def recorded_events(given: Iterable[Mapping[str, Any]], now: int) -> list[RecordedEvent]:
    """Several; an error names the first that is wrong, counted from 0, and nothing is returned."""
    return [recorded_event(one, now, f"event {at}: ") for at, one in enumerate(given)]


def now() -> int:
    """The time of this machine, microseconds since 1970."""
    return time_ns() // 1_000


def _id_of(event: RecordedEvent) -> str:
    return blake2b(repr(tuple(event)).encode(), digest_size=16).hexdigest()


def _text(value: object, name: str, where: str, longest: int) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{where}{name} is {value!r:.80}; give a string")
    if not value.strip():
        raise BadRequest(f"{where}{name} is empty; give a string with visible characters")
    if len(value) > longest:
        raise BadRequest(f"{where}{name} has {len(value):,} characters; give {longest:,} at most")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where}{name} is {value!r:.80}, which is not Unicode text; decode it as UTF-8") from None
    if "\0" in value:
        raise BadRequest(f"{where}{name} is {value!r:.80}; leave out the character NUL")
    return value


def _optional(given: Mapping[str, Any], name: str, where: str, longest: int) -> str | None:
    value = given.get(name)
    return None if value is None or value == "" else _text(value, name, where, longest)


def _number(value: object, name: str, where: str, *, signed: bool = False) -> float | None:
    if value is None:
        return None
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or abs(float(value)) > LARGEST or (not signed and value < 0):  # type: ignore[arg-type, operator]
        raise BadRequest(
            f"{where}{name} is {value!r:.80}; give a finite number{'' if signed else ', 0 or more'}, or None"
        )
    return float(value)  # type: ignore[arg-type]


def _time(when: object, now: int, where: str) -> int:
    time = read_time(when)
    if time is None or time < 0:
        raise BadRequest(
            f"{where}timestamp is {when!r:.80}; give a datetime, a text such as 2026-01-31T12:00Z, seconds since 1970, "
            "or None for now"
        )
    if time > now + CLOCK_SKEW:
        later = datetime.fromtimestamp(time / SECOND).astimezone().isoformat(timespec="seconds")
        raise BadRequest(
            f"{where}timestamp is {when!r:.80} ({later}), more than {CLOCK_SKEW // SECOND // 60} minutes ahead of this "
            "machine's clock; times without a zone are read as UTC: name the zone, or give None for now"
        )
    return time
