"""Visits to the general shop: most looks lead nowhere, carts are left, and only what is used up is bought again."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from retrieval.sample_shop.vocabulary import load_words
from retrieval.sample_shop.write import SampleTables

Row = dict[str, Any]
DAYS_OF_USE = {category.name: category.days_of_use for category in load_words().categories}


@pytest.fixture(scope="module")
def rows(shop: SampleTables) -> list[Row]:
    return shop.events.to_pylist()


@pytest.fixture(scope="module")
def days_of_use(shop: SampleTables) -> dict[str, float | None]:
    """How long a usual pack of each item's category lasts."""
    items = shop.items.select(["item_id", "category"]).to_pylist()
    return {item["item_id"]: DAYS_OF_USE[item["category"][-1]] for item in items}


def times_of(rows: list[Row], kind: str) -> dict[tuple[str, str], list[datetime]]:
    """The times of a kind of event by shopper and item."""
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in rows:
        if row["event"] == kind:
            found[row["user_id"], row["item_id"]].append(row["timestamp"])
    return found


def followed(rows: list[Row], kind: str) -> float:
    """The share of events of a kind after which the shopper buys the item, in that visit or a later one."""
    bought = times_of(rows, "purchase")
    pairs = [(at, bought.get(pair, [])) for pair, times in times_of(rows, kind).items() for at in times]
    return float(np.mean([any(at < purchase for purchase in purchases) for at, purchases in pairs]))


def test_less_than_half_of_the_looks_lead_to_a_purchase_then_or_later(rows: list[Row]) -> None:
    assert 0.1 < followed(rows, "view") < 0.5


def test_a_look_says_less_than_a_cart_and_some_carts_are_left_for_good(rows: list[Row]) -> None:
    assert followed(rows, "view") + 0.2 < followed(rows, "cart") < 0.85


def test_some_carts_are_bought_in_a_later_visit(rows: list[Row]) -> None:
    carted = {(row["session_id"], row["item_id"]) for row in rows if row["event"] == "cart"}
    waiting: dict[tuple[str, str], str] = {}
    later = []
    for row in rows:
        pair = row["user_id"], row["item_id"]
        if row["event"] == "cart":
            waiting[pair] = row["session_id"]
        if row["event"] == "purchase" and pair in waiting:
            later.append(waiting[pair] != row["session_id"])
    assert len(later) < len(carted)
    assert 0.1 < np.mean(later) < 0.5


def test_many_visits_end_without_a_purchase(rows: list[Row]) -> None:
    visits = {row["session_id"] for row in rows}
    buying = {row["session_id"] for row in rows if row["event"] == "purchase"}
    assert 0.3 < len(buying) / len(visits) < 0.75


def test_most_purchases_are_of_what_was_looked_at_before_or_is_bought_again(rows: list[Row]) -> None:
    met: set[tuple[str, str]] = set()
    known = []
    for row in rows:
        pair = row["user_id"], row["item_id"]
        if row["event"] == "purchase":
            known.append(pair in met)
        met.add(pair)
    assert 0.8 < np.mean(known) < 1


def test_no_shopper_buys_a_lasting_thing_twice(rows: list[Row], days_of_use: dict[str, float | None]) -> None:
    lasting = {pair: len(times) for pair, times in times_of(rows, "purchase").items() if days_of_use[pair[1]] is None}
    assert set(lasting.values()) == {1}
    assert len(lasting) > 300


def test_what_is_used_up_is_bought_again_when_it_runs_out(
    rows: list[Row], days_of_use: dict[str, float | None]
) -> None:
    lateness = []
    for (_, item), times in times_of(rows, "purchase").items():
        usual = days_of_use[item]
        if usual is not None:
            lateness += [(later - earlier).total_seconds() / 86_400 / usual for earlier, later in pairwise(times)]
    assert len(lateness) > 100
    by_size = (0.75, 1.0, 1.3, 1.7)  # how long the four sizes last, in usual packs
    near = [min(abs(gap / size - 1) for size in by_size) < 0.15 for gap in lateness]
    assert np.mean(near) > 0.7
    assert 0.7 < np.median(lateness) < 1.7


def test_a_longer_lasting_category_is_bought_again_later(rows: list[Row], days_of_use: dict[str, float | None]) -> None:
    gaps: dict[float, list[float]] = defaultdict(list)
    for (_, item), times in times_of(rows, "purchase").items():
        for earlier, later in pairwise(times):
            gaps[days_of_use[item] or 0.0].append((later - earlier).total_seconds() / 86_400)
    often = sorted(usual for usual, found in gaps.items() if len(found) >= 10)
    medians = [float(np.median(gaps[usual])) for usual in often]
    assert len(often) >= 4
    assert np.corrcoef(often, medians)[0, 1] > 0.8


def test_few_lasting_things_are_sent_back_and_only_what_was_bought(rows: list[Row]) -> None:
    kinds = Counter(row["event"] for row in rows)
    assert 0 < kinds["return"] < 0.1 * kinds["purchase"]
    bought = times_of(rows, "purchase")
    assert all(min(bought[pair]) < min(times) for pair, times in times_of(rows, "return").items())


def test_some_visits_begin_with_a_search(rows: list[Row]) -> None:
    searched = {row["session_id"] for row in rows if row["query"]}
    assert 0.2 < len(searched) / len({row["session_id"] for row in rows}) < 0.5
