"""Price and category as codes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval.towers.item_features import MIN_ITEMS, PRICE_BINS, ItemFeatures


def table(**columns: pa.Array | list[object]) -> pa.Table:
    """Items with an id each and some columns."""
    n = len(next(iter(columns.values())))
    return pa.table({"item_id": [str(row) for row in range(n)], **columns})


def names(features: ItemFeatures, items: pa.Table) -> list[list[str]]:
    """The categories of each item, by name."""
    codes = features.category_codes(items)
    return [[features.categories[code] for code in codes.select(np.array([row])).rows] for row in range(codes.n_lists)]


def test_unknown_prices_have_a_code_of_their_own() -> None:
    items = table(price=pa.array([1.0, None, float("nan"), 0.0, 4.0, float("inf")], pa.float64()))
    features = ItemFeatures.fit(items)
    codes = features.price_codes(items)
    assert codes[[1, 2, 3, 5]].tolist() == [0, 0, 0, 0]
    assert (codes[[0, 4]] > 0).all()
    assert codes[0] < codes[4] < features.n_prices


def test_price_codes_rise_with_the_price_and_fill_evenly() -> None:
    prices = np.random.default_rng(0).permutation(np.arange(1.0, 161.0))
    items = table(price=pa.array(prices))
    features = ItemFeatures.fit(items)
    codes = features.price_codes(items)
    assert (np.diff(codes[np.argsort(prices)]) >= 0).all()
    assert features.n_prices == PRICE_BINS + 1
    assert np.bincount(codes, minlength=features.n_prices)[1:].min() >= 9
    extremes = features.price_codes(table(price=pa.array([0.01, 1e9])))
    assert extremes.tolist() == [1, PRICE_BINS]


def test_a_catalogue_without_prices_or_categories_knows_one_price_code_and_no_category() -> None:
    items = table(title=["a", "b"])
    features = ItemFeatures.fit(items)
    assert features == ItemFeatures(price_edges=(), categories=())
    assert features.price_codes(items).tolist() == [0, 0]
    assert features.category_codes(items).indptr.tolist() == [0, 0, 0]
    priced = table(price=[3.0, 5.0])
    assert features.price_codes(priced).tolist() == [1, 1]
    assert features.price_codes(priced).max() < features.n_prices


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_category_as_a_string_is_one_category(kind: pa.DataType) -> None:
    items = table(category=pa.array(["tools", "tools", None, "hair care", "tools", "hair care", "hair care"], kind))
    features = ItemFeatures.fit(items)
    assert features.categories == ("hair care", "tools")
    assert names(features, items) == [["tools"], ["tools"], [], ["hair care"], ["tools"], ["hair care"], ["hair care"]]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_a_list_of_categories_counts_each_once_and_leaves_rare_and_missing_ones_out(kind: pa.DataType) -> None:
    lists = [["a", "b"], None, ["b", None, "b", "a"], [], ["rare", "a", "b"], ["b"]]
    items = table(category=pa.array(lists, kind))
    features = ItemFeatures.fit(items)
    assert features.categories == ("b", "a")  # by how many items have them
    assert names(features, items) == [["a", "b"], [], ["b", "a"], [], ["a", "b"], ["b"]]


def test_codes_of_a_part_of_the_table_are_those_of_the_whole() -> None:
    lists = [["a"], ["b", "a"], None, ["b"], ["a", "b"], ["b"]]
    items = table(category=pa.array(lists), price=pa.array([1.0, 2.0, None, 4.0, 5.0, 6.0]))
    features = ItemFeatures.fit(items)
    chunked = pa.concat_tables([items.slice(0, 2), items.slice(2)])
    for whole in (items, chunked):
        part = whole.slice(1, 4)
        assert features.price_codes(part).tolist() == features.price_codes(items)[1:5].tolist()
        assert names(features, part) == names(features, items)[1:5]


def test_an_unseen_category_has_no_code() -> None:
    features = ItemFeatures.fit(table(category=["a"] * MIN_ITEMS))
    assert names(features, table(category=["new", "a"])) == [[], ["a"]]


def test_one_very_long_category_name_costs_its_own_length_only() -> None:
    items = table(category=["x" * 1_000_000, *["a"] * 20_000])
    assert ItemFeatures.fit(items).categories == ("a",)


def test_a_brand_is_one_more_name_and_counts_once_where_it_stands_among_the_categories() -> None:
    items = table(
        category=pa.array([["hair", "Acme"], ["hair"], ["hair"], None], pa.list_(pa.string())),
        brand=["Acme", "Acme", None, "Acme"],
    )
    features = ItemFeatures(price_edges=(), categories=("Acme", "brand: Acme", "hair"))
    assert names(features, items) == [["hair", "Acme"], ["hair", "brand: Acme"], ["hair"], ["brand: Acme"]]
    assert ItemFeatures.fit(table(brand=["Acme"] * MIN_ITEMS)).categories == ("brand: Acme",)
