"""What is an event, and what is said of what is none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest

from retrieval.errors import BadRequest
from serving.live.events import CLOCK_SKEW, recorded_event, recorded_events

NOW = 1_800_000_000_000_000
LEAST = {"user_id": "ann", "item_id": "mug", "event": "view"}


def test_an_event_without_a_time_happened_now() -> None:
    assert recorded_event(LEAST, NOW).time == NOW


@pytest.mark.parametrize(
    "when",
    [
        datetime(2026, 1, 2, 3, tzinfo=UTC),
        datetime(2026, 1, 2, 3),
        datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2))),
        "2026-01-02T03:00",
        "2026-01-02T03:00:00Z",
        1767322800,
        1767322800.0,
    ],
)
def test_times_are_read_in_every_usual_form(when: object) -> None:
    assert recorded_event({**LEAST, "timestamp": when}, NOW).time == 1_767_322_800_000_000


def test_an_event_without_an_id_has_one_of_all_that_it_says() -> None:
    same = [recorded_event({**LEAST, "timestamp": 5}, now).event_id for now in (NOW, NOW + 1)]
    assert same[0] == same[1]
    changes: list[Mapping[str, object]] = [
        {"user_id": "bob"}, {"item_id": "cup"}, {"event": "cart"}, {"timestamp": 6}, {"quantity": 2}, {"query": "red"},
        {"basket_id": "b"}, {"price": 1.5}, {"rating": 4},
    ]  # fmt: skip
    others = {recorded_event({**LEAST, "timestamp": 5, **change}, NOW).event_id for change in changes}
    assert len(others | set(same)) == len(changes) + 1
    assert recorded_event({**LEAST, "event_id": "mine"}, NOW).event_id == "mine"


def test_a_purchase_of_less_than_nothing_is_a_return() -> None:
    back = recorded_event({**LEAST, "event": "purchase", "quantity": -1, "price": -2.0}, NOW)
    assert back.is_return
    assert (back.event, back.kind) == ("purchase", "return")
    assert recorded_event({**LEAST, "event": "refund"}, NOW).is_return
    assert not recorded_event({**LEAST, "event": "purchase", "quantity": 1}, NOW).is_return


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user_id": None}, "user_id is None"),
        ({"user_id": 7}, "user_id is 7"),
        ({"item_id": " "}, "item_id is empty"),
        ({"event": ""}, "event is empty"),
        ({"item_id": "a\udcff"}, "item_id is"),
        ({"item_id": "a\0"}, "NUL"),
        ({"user_id": "a" * 1_001}, "1,001 characters"),
        ({"quantity": "2"}, "quantity is '2'"),
        ({"quantity": float("nan")}, "quantity is nan"),
        ({"price": -1}, "price is -1"),
        ({"rating": True}, "rating is True"),
        ({"event": "cart", "quantity": -1}, "takes nothing back"),
        ({"timestamp": "yesterday"}, "timestamp is 'yesterday'"),
        ({"timestamp": -5}, "timestamp is -5"),
        ({"timestamp": (NOW + CLOCK_SKEW) / 1e6 + 60}, "ahead of this machine's clock"),
        ({"colour": "red"}, "colour, which no event has"),
    ],
)
def test_what_is_no_event_is_named(change: Mapping[str, object], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        recorded_event({**LEAST, **change}, NOW)


def test_of_several_the_first_that_is_wrong_is_named_by_its_place() -> None:
    with pytest.raises(BadRequest, match="event 1: user_id is None"):
        recorded_events([LEAST, {**LEAST, "user_id": None}, {}], NOW)
    with pytest.raises(BadRequest, match=r"event 0: is 7"):
        recorded_events([7], NOW)  # type: ignore[list-item]
