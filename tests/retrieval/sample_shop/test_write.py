"""The generated shop: reproducible, within the contract, and with something to learn in it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval.data.dataset import load
from retrieval.errors import BadConfig
from retrieval.sample_shop.vocabulary import Kind, load_words
from retrieval.sample_shop.write import SampleTables, write_sample


@pytest.fixture(scope="module")
def shelf(shop: SampleTables) -> dict[str, str]:
    rows = shop.items.select(["item_id", "category"]).to_pylist()
    return {row["item_id"]: row["category"][-1] for row in rows}


def purchases(shop: SampleTables) -> list[dict[str, object]]:
    return [row for row in shop.events.to_pylist() if row["event"] == "purchase"]


def baskets(shop: SampleTables) -> list[list[str]]:
    found: dict[object, list[str]] = defaultdict(list)
    for row in purchases(shop):
        found[row["basket_id"]].append(str(row["item_id"]))
    return list(found.values())


@pytest.mark.parametrize("kind", ["general", "groceries"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_shop(kind: Kind, tmp_path: Path) -> None:
    sizes = {"items": 120, "shoppers": 30, "events": 400, "queries": 12, "days": 30}
    first, again, other = (
        write_sample(tmp_path / name, kind=kind, seed=seed, **sizes) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    for name in ("items.parquet", "events.parquet", "queries.parquet", "judgements.parquet"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_a_written_shop_says_that_it_is_generated_and_leaves_no_partial_file(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample-shop", items=120, shoppers=30, events=400, queries=12, days=30)
    parquet = {"items.parquet", "events.parquet", "queries.parquet", "judgements.parquet"}
    assert {path.name for path in folder.iterdir()} == parquet | {"README.md"}
    assert "generated" in (folder / "README.md").read_text()
    for name in parquet:
        assert b"generated shop" in pq.read_schema(folder / name).metadata[b"shortlist.sample"]


@pytest.mark.parametrize("kind", ["general", "groceries"])
def test_a_written_shop_keeps_the_contract_without_a_bad_row(kind: Kind, tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample-shop", kind=kind, items=120, shoppers=30, events=900, queries=12, days=30)
    data = load(folder, max_bad=0.0, max_unknown=0.0, now=datetime(2025, 4, 1, tzinfo=UTC))
    assert [file.bad + file.unknown for file in data.report.files] == [0, 0, 0, 0]
    assert (data.n_items, data.n_users, data.has_recommend, data.has_search) == (120, 30, True, True)


@pytest.mark.parametrize(
    ("size", "value"), [("items", 39), ("shoppers", 0), ("events", 0), ("queries", 0), ("days", 7)]
)
def test_a_size_too_small_for_a_shop_is_refused_by_name(tmp_path: Path, size: str, value: int) -> None:
    with pytest.raises(BadConfig, match=f"{size}={value} is too small"):
        write_sample(tmp_path / "sample-shop", **{size: value})
    assert not (tmp_path / "sample-shop").exists()


def test_sizes_are_met_and_every_reference_resolves(shop: SampleTables) -> None:
    assert len(shop.items) == 600
    assert len(set(shop.events["user_id"].to_pylist())) == 300
    assert len(shop.queries) == 120
    assert 0.9 * 12_000 < len(shop.events) < 1.1 * 12_000
    assert set(shop.events["event"].to_pylist()) == {"view", "click", "favourite", "cart", "purchase", "return"}
    known = set(shop.items["item_id"].to_pylist())
    assert len(known) == 600
    assert set(shop.events["item_id"].to_pylist()) <= known
    assert set(shop.judgements["item_id"].to_pylist()) <= known
    assert set(shop.judgements["query_id"].to_pylist()) == set(shop.queries["query_id"].to_pylist())


def test_events_lie_within_the_days_and_come_in_the_order_of_time(shop: SampleTables) -> None:
    times = shop.events["timestamp"].to_pylist()
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[0] >= datetime(2024, 10, 3, tzinfo=UTC)
    assert times[-1] < datetime(2025, 4, 1, tzinfo=UTC)


def test_titles_prices_and_categories_are_believable(shop: SampleTables) -> None:
    rows = shop.items.to_pylist()
    assert len({row["category"][-1] for row in rows}) == 40
    assert all(row["title"].startswith(row["brand"]) and row["price"] > 0 for row in rows)
    assert len({row["title"] for row in rows}) > 0.98 * len(rows)
    assert 0 < shop.items["description"].null_count < 0.1 * len(rows)
    assert 0.9 < sum(row["in_stock"] for row in rows) / len(rows) < 1


def test_a_visit_goes_from_view_to_click_to_cart_and_a_basket_has_one_time(shop: SampleTables) -> None:
    reached: dict[tuple[str, str], list[str]] = defaultdict(list)
    basket_times = defaultdict(set)
    for row in shop.events.to_pylist():
        reached[row["session_id"], row["item_id"]].append(row["event"])
        if row["event"] == "purchase":
            basket_times[row["basket_id"]].add(row["timestamp"])
    order = ["view", "click", "favourite", "cart", "purchase", "return"]
    for kinds in reached.values():
        assert kinds == sorted(kinds, key=order.index)
        assert "click" not in kinds or "view" in kinds
        assert "return" not in kinds or "purchase" in kinds
    assert all(len(times) == 1 for times in basket_times.values())


def test_a_shopper_buys_from_few_categories(shop: SampleTables, shelf: dict[str, str]) -> None:
    bought: dict[object, list[str]] = defaultdict(list)
    for row in purchases(shop):
        bought[row["user_id"]].append(shelf[str(row["item_id"])])
    pairs = [a == b for shelves in bought.values() for a, b in combinations(shelves, 2)]
    shares = np.array(list(Counter(name for shelves in bought.values() for name in shelves).values()), dtype=float)
    chance = float(np.square(shares / shares.sum()).sum())
    assert np.mean(pairs) > 4 * chance


def test_what_goes_together_is_bought_together(shop: SampleTables, shelf: dict[str, str]) -> None:
    beside = {
        category.name: {load_words().categories[row].name for row in rows}
        for category, rows in zip(load_words().categories, load_words().goes_with, strict=True)
    }
    pairs = [
        shelf[b] in beside[shelf[a]] or shelf[a] in beside[shelf[b]]
        for basket in baskets(shop)
        for a, b in combinations(basket, 2)
        if shelf[a] != shelf[b]
    ]
    rng = np.random.default_rng(0)
    everything = [shelf[item] for basket in baskets(shop) for item in basket]
    strangers = zip(rng.permutation(everything), rng.permutation(everything), strict=True)
    chance = np.mean([a in beside[b] or b in beside[a] for a, b in strangers])
    assert np.mean(pairs) > 5 * chance


def test_few_items_sell_most_and_the_best_sellers_change(shop: SampleTables) -> None:
    sold = [str(row["item_id"]) for row in purchases(shop)]
    best = sum(count for _, count in Counter(sold).most_common(len(shop.items) // 5))
    assert best > 0.5 * len(sold)
    thirds = [Counter(sold[: len(sold) // 3]).most_common(30), Counter(sold[-len(sold) // 3 :]).most_common(30)]
    early, late = ({item for item, _ in third} for third in thirds)
    assert 3 <= len(early & late) < 30


def test_the_grade_follows_the_words_that_query_and_title_share(shop: SampleTables) -> None:
    texts = {row["query_id"]: set(row["text"].split()) for row in shop.queries.to_pylist()}
    titles = {row["item_id"]: set(re.findall(r"[\w.-]+", row["title"].lower())) for row in shop.items.to_pylist()}
    shared = defaultdict(list)
    for row in shop.judgements.to_pylist():
        words = texts[row["query_id"]]
        shared[round(row["grade"])].append(len(words & titles[row["item_id"]]) / len(words))
    assert np.mean(shared[3]) > np.mean(shared[2]) + 0.1
    assert np.mean(shared[2]) > np.mean(shared[1]) + 0.1


def test_queries_are_distinct_a_quarter_is_misspelt_and_each_is_in_one_split(shop: SampleTables) -> None:
    texts = shop.queries["text"].to_pylist()
    assert len(set(texts)) == len(texts)
    phrases = list(load_words().brands)
    for category in load_words().categories:
        phrases += [*category.nouns, *category.nouns.values(), *category.traits, *category.sizes, *category.looks]
    vocabulary = {word for phrase in phrases for word in phrase.lower().split()}
    wrong = [not set(text.split()) <= vocabulary for text in texts]
    assert 0.2 < np.mean(wrong) <= 0.25
    splits = defaultdict(set)
    for row in shop.judgements.to_pylist():
        splits[row["query_id"]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(name for found in splits.values() for name in found) == {"train": 72, "valid": 18, "test": 30}


def test_grades_come_in_thirds_between_one_and_three(shop: SampleTables) -> None:
    grades = np.array(shop.judgements["grade"].to_pylist())
    np.testing.assert_allclose(grades * 3, np.round(grades * 3), atol=0.02)
    assert (grades.min(), grades.max()) == (1.0, 3.0)
    assert any(grade not in {1.0, 2.0, 3.0} for grade in grades)
