"""Every group of features against plain loops, on small random shops and at their edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_shops import NOW, FeatureShop, feature_shop, without_events
from naive_features import Naive
from ranking.features.facts import ShopFacts
from ranking.features.registry import FeatureReader, feature_groups, features_of
from ranking.features.shortlists import ShopperEvents
from retrieval.data.time_units import DAY

pytestmark = pytest.mark.filterwarnings("error")


def names_of(facts: ShopFacts) -> list[str]:
    """Every feature that a shop has."""
    return list(features_of(facts, search=False) | features_of(facts, search=True))


def read(shop: FeatureShop) -> tuple[list[str], np.ndarray]:
    names = names_of(shop.facts)
    return names, FeatureReader.of(names, shop.facts).read(shop.shortlists)


def assert_as_naive(shop: FeatureShop) -> None:
    names, found = read(shop)
    assert found.shape == (*shop.shortlists.rows.shape, len(names))
    for line in range(len(shop.shortlists)):
        naive = Naive(shop, line)
        for place, row in enumerate(naive.rows):
            if row < 0:
                assert np.isnan(found[line, place]).all()
                continue
            wanted = naive.of(place)
            values = dict(zip(names, found[line, place].tolist(), strict=True))
            for name in names:
                assert values[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-4, nan_ok=True), (name, line, place)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n_items=st.integers(1, 12), n_events=st.integers(0, 90))
def test_every_feature_is_what_a_loop_over_events_finds(seed: int, n_items: int, n_events: int) -> None:
    assert_as_naive(feature_shop(seed, n_items=n_items, n_events=n_events))


def test_all_groups_are_compared() -> None:
    shop = feature_shop(1, n_events=200)
    names = names_of(shop.facts)
    assert set(names) == set(Naive(shop, 0).of(0))
    assert {group.name for group in feature_groups()} == {
        group.name for group in (features_of(shop.facts, search=False) | features_of(shop.facts, search=True)).values()
    }


@pytest.mark.parametrize("seed", range(3))
def test_of_shoppers_of_whom_nothing_is_known_the_rest_is_told(seed: int) -> None:
    assert_as_naive(without_events(feature_shop(seed)))


@pytest.mark.parametrize(("n", "k"), [(0, 6), (3, 0), (1, 1)])
def test_no_request_no_candidate_and_one_of_each(n: int, k: int) -> None:
    assert_as_naive(feature_shop(4, n=n, k=k))


def test_a_shop_without_events_has_neither_own_features_nor_popularity() -> None:
    shop = feature_shop(5, n_events=0)
    names, found = read(shop)
    assert not {"own_taken", "takings", "takings_7d", "rating", "leaf_share", "taken_before"} & set(names)
    assert {"fused_score", "tower_content", "words_in_title", "price_to_list"} <= set(names)
    assert np.isfinite(found[shop.shortlists.rows >= 0][:, names.index("fused_score")]).all()


def test_times_that_are_positions_tell_no_recent_popularity() -> None:
    names = names_of(feature_shop(6, dated=False).facts)
    assert not {"takings_7d", "trend", "age", "conversion", "hour"} & set(names)
    assert {"takings", "own_taken"} <= set(names)


def test_items_without_columns_have_no_features_of_them() -> None:
    shop = feature_shop(7)
    names, found = read(replace(shop, facts=replace(shop.facts, items=shop.facts.items.select(["title"]))))
    assert not [name for name in names if name.startswith(("price", "leaf", "brand_share", "parent"))]
    assert np.isnan(found[shop.shortlists.rows < 0]).all()


def test_an_item_newer_than_the_matrices_goes_with_nothing() -> None:
    shop = feature_shop(8, n_events=200)
    names, found = read(shop)
    newest = shop.shortlists.rows == shop.facts.n_items - 1
    assert newest.any()
    for name, value in {
        "together_sum_10": 0.0,
        "takings": 0.0,
        "ratings": 0.0,
        "rating": np.nan,
        "item_gap": np.nan,
    }.items():
        np.testing.assert_array_equal(found[newest][:, names.index(name)], np.float32(value))


def test_many_requests_have_the_features_of_each_alone() -> None:
    shop = feature_shop(9, n=12)
    _, together = read(shop)
    alone = [
        read(replace(shop, shortlists=shop.shortlists.select(np.array([line]))))[1]
        for line in range(len(shop.shortlists))
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6, rtol=0)


def test_the_order_of_candidates_does_not_matter() -> None:
    shop = feature_shop(10)
    _, found = read(shop)
    order = np.random.default_rng(0).permutation(shop.shortlists.rows.shape[1])
    lists = shop.shortlists
    permuted = replace(
        lists,
        rows=lists.rows[:, order],
        fused=lists.fused[:, order],
        scores={name: scores[:, order] for name, scores in lists.scores.items()},
    )
    np.testing.assert_allclose(read(replace(shop, shortlists=permuted))[1], found[:, order], atol=1e-6, rtol=0)


def test_events_that_follow_one_another_are_told_apart_by_shopper() -> None:
    shop = feature_shop(11)
    events = shop.shortlists.events
    again = ShopperEvents.join([events.select(np.array([line])) for line in range(len(shop.shortlists))])
    assert again.items.rows.tolist() == events.items.rows.tolist()
    assert again.times.tolist() == events.times.tolist()


def test_popularity_after_the_newest_events_is_that_of_the_end_of_them() -> None:
    shop = feature_shop(12, n_events=200)
    asked, facts = shop.shortlists, replace(shop.facts, today=NOW)
    recent = ("recent_popularity", "conversion")
    names = [name for name, group in features_of(facts, search=False).items() if group.name in recent]
    reader = FeatureReader.of(names, facts)
    at_the_end, later = (reader.read(replace(asked, now=np.full(len(asked), now))) for now in (NOW, NOW + 9 * DAY))
    np.testing.assert_array_equal(at_the_end, later)
    assert (
        at_the_end != FeatureReader.of(names, shop.facts).read(replace(asked, now=asked.now * 0 + NOW + 9 * DAY))
    ).any()


@pytest.mark.parametrize("seed", range(3))
def test_some_candidates_are_read_by_themselves_as_with_the_whole_list(seed: int) -> None:
    shop = feature_shop(seed)
    names = {**features_of(shop.facts, search=False), **features_of(shop.facts, search=True)}
    reader, places = FeatureReader.of(names, shop.facts), np.array([4, 1])
    whole, some = reader.read(shop.shortlists), reader.read(shop.shortlists, places)
    np.testing.assert_allclose(some, whole[:, places], rtol=1e-5, atol=1e-6)
    assert not np.isnan(some).all()
