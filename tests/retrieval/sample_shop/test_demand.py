"""Seasons, fashions, and tastes that change over the months."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date

import numpy as np
import pytest

from retrieval.sample_shop.demand import crowd, popularity, seasons
from retrieval.sample_shop.stock import stock
from retrieval.sample_shop.vocabulary import Kind, load_words
from retrieval.sample_shop.write import SampleTables

DAYS = 180


def test_a_category_sells_most_in_its_month_and_one_without_a_month_evenly() -> None:
    words = load_words()
    season = seasons(words, date(2024, 1, 1), 366)
    months = np.array([date.fromordinal(date(2024, 1, 1).toordinal() + day).month for day in range(366)])
    for row, category in enumerate(words.categories):
        if category.peak_month is None:
            assert (season[:, row] == 1).all()
        else:
            assert months[season[:, row].argmax()] == category.peak_month
            assert season[:, row].max() > 4 * season[:, row].min()


@pytest.mark.parametrize(("name", "kind", "event"), [("shop", "general", "view"), ("grocer", "groceries", "purchase")])
def test_what_is_of_the_season_takes_a_larger_share(
    name: str, kind: Kind, event: str, request: pytest.FixtureRequest
) -> None:
    tables: SampleTables = request.getfixturevalue(name)
    peaks = {category.name: category.peak_month for category in load_words(kind).categories}
    peak = {row["item_id"]: peaks[row["category"][-1]] for row in tables.items.to_pylist()}
    met: dict[int, Counter[int | None]] = defaultdict(Counter)
    for row in tables.events.to_pylist():
        if row["event"] == event:
            met[row["timestamp"].month][peak[row["item_id"]]] += 1

    def winter_for_spring(month: int) -> float:
        return (met[month][11] + met[month][12]) / (met[month][3] + met[month][4] + met[month][6])

    assert winter_for_spring(12) > 1.5 * winter_for_spring(3)


def test_an_item_comes_into_fashion_and_goes() -> None:
    shop = stock(np.random.default_rng(0), 400, DAYS)
    in_between = (shop.fashion_day > 60) & (shop.fashion_day < 120)
    rows = np.flatnonzero((shop.fashion > 1) & in_between & (shop.first_day == 0))
    assert len(rows) > 20
    for row in rows:
        at = np.array([row])
        height = popularity(shop, at, float(shop.fashion_day[row]))
        assert height > 2 * max(popularity(shop, at, 0.0), popularity(shop, at, float(DAYS)))


def test_an_item_is_not_wanted_before_it_is_on_sale() -> None:
    shop = stock(np.random.default_rng(0), 400, DAYS)
    rows = np.flatnonzero(shop.first_day > 10)
    assert (popularity(shop, rows, 10.0) == 0).all()
    assert (popularity(shop, rows, float(DAYS)) > 0).all()


def test_a_shopper_likes_other_categories_and_brands_after_the_change() -> None:
    people = crowd(np.random.default_rng(0), load_words(), 200, DAYS)
    before, after = ([people.taste(shopper, day) for shopper in range(200)] for day in (0.0, 3.0 * DAYS))
    kept = [np.minimum(a.categories, b.categories).sum() for a, b in zip(before, after, strict=True)]
    assert 0.1 < np.mean(kept) < 0.7
    assert np.mean([np.argmax(a.brands) == np.argmax(b.brands) for a, b in zip(before, after, strict=True)]) < 0.8
    assert np.std([b.level - a.level for a, b in zip(before, after, strict=True)]) > 0.2


def test_what_a_shopper_looks_at_is_more_like_last_week_than_like_months_ago(shop: SampleTables) -> None:
    shelf = {row["item_id"]: row["category"][-1] for row in shop.items.to_pylist()}
    seen: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in shop.events.to_pylist():
        if row["event"] == "view":
            seen[row["user_id"]].append((row["timestamp"].timestamp() / 86_400, shelf[row["item_id"]]))
    near, far = [], []
    for views in seen.values():
        for at, (day, category) in enumerate(views):
            for earlier, other in views[:at]:
                if 1 < day - earlier < 15:
                    near.append(category == other)
                elif day - earlier > 90:
                    far.append(category == other)
    assert np.mean(near) > 1.3 * np.mean(far)
