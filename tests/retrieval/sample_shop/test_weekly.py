"""Weekly visits to the grocer's: a weekday, staples that run out, baskets of five to twenty."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from retrieval.sample_shop.vocabulary import load_words
from retrieval.sample_shop.write import SampleTables

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(grocer: SampleTables) -> list[Row]:
    return grocer.events.to_pylist()


@pytest.fixture(scope="module")
def gaps(grocer: SampleTables, rows: list[Row]) -> dict[str, list[float]]:
    """Days between purchases of an item by a shopper who bought it at least four times, by category."""
    shelf = {row["item_id"]: row["category"][-1] for row in grocer.items.to_pylist()}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["event"] == "purchase":
            times[row["user_id"], row["item_id"]].append(row["timestamp"].timestamp() / 86_400)
    found: dict[str, list[float]] = defaultdict(list)
    for (_, item), days in times.items():
        if len(days) >= 4:
            found[shelf[item]] += [later - earlier for earlier, later in pairwise(days)]
    return found


def test_sizes_are_met_and_every_reference_resolves(grocer: SampleTables) -> None:
    assert (len(grocer.items), len(set(grocer.events["user_id"].to_pylist())), len(grocer.queries)) == (310, 60, 40)
    assert 0.9 * 12_000 < len(grocer.events) < 1.1 * 12_000
    assert set(grocer.events["event"].to_pylist()) == {"view", "purchase"}
    assert set(grocer.events["item_id"].to_pylist()) <= set(grocer.items["item_id"].to_pylist())


def test_items_have_titles_a_category_path_a_brand_and_a_price(grocer: SampleTables) -> None:
    rows = grocer.items.to_pylist()
    assert {row["category"][-1] for row in rows} == {category.name for category in load_words("groceries").categories}
    assert all(len(row["category"]) == 2 for row in rows)
    assert all(row["title"].startswith(row["brand"]) and 0 < row["price"] < 60 for row in rows)


def test_a_shopper_comes_on_one_day_of_the_week(rows: list[Row]) -> None:
    visits = {(row["user_id"], row["session_id"]): row["timestamp"].weekday() for row in rows}
    days: dict[str, list[int]] = defaultdict(list)
    for (user, _), weekday in visits.items():
        days[user].append(weekday)
    most = [Counter(found).most_common(1)[0][1] / len(found) for found in days.values() if 5 <= len(found) <= 25]
    assert len(most) > 20
    assert np.mean(most) > 0.65
    assert len({Counter(found).most_common(1)[0][0] for found in days.values()}) == 7


def test_a_basket_holds_five_to_twenty_items_at_one_time(rows: list[Row]) -> None:
    baskets: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["event"] == "purchase":
            baskets[row["basket_id"]].append(row)
    sizes = [len(found) for found in baskets.values()]
    assert 5 <= min(sizes) <= max(sizes) <= 20
    assert len(set(sizes)) > 10
    assert all(len({row["timestamp"] for row in found}) == 1 for found in baskets.values())
    assert all(len({row["item_id"] for row in found}) == len(found) for found in baskets.values())


def test_there_are_few_looks(rows: list[Row]) -> None:
    kinds = Counter(row["event"] for row in rows)
    assert 0 < kinds["view"] < 0.25 * kinds["purchase"]


def test_staples_are_bought_again_in_their_own_rhythm(gaps: dict[str, list[float]]) -> None:
    usual = {category.name: category.days_of_use or 0.0 for category in load_words("groceries").categories}
    often = [name for name, found in gaps.items() if len(found) >= 20]
    assert len(often) > 15
    medians = [float(np.median(gaps[name])) for name in often]
    assert np.corrcoef([usual[name] for name in often], medians)[0, 1] > 0.8
    assert np.median(gaps["Milk"]) <= 8
    assert np.median(gaps["Milk"]) < np.median(gaps["Coffee"]) < np.median(gaps["Laundry"])


def test_most_of_a_basket_was_bought_before(rows: list[Row]) -> None:
    middle = rows[len(rows) // 2]["timestamp"]
    had: set[tuple[str, str]] = set()
    again = []
    for row in rows:
        if row["event"] == "purchase":
            again += [(row["user_id"], row["item_id"]) in had] * (row["timestamp"] > middle)
            had.add((row["user_id"], row["item_id"]))
    assert 0.55 < np.mean(again) < 0.95
