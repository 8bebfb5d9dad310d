"""Labelled lists: chosen, joined, put in a canonical order, measured; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_lists import SIZE, chosen_lists, linear_utility
from ranking.feature_ranker.lists import TrainingLists
from retrieval.errors import BadData


def ragged(*labels: list[float]) -> TrainingLists:
    sizes = [len(one) for one in labels]
    flat = np.array([label for one in labels for label in one], np.float32)
    number, indptr = np.arange(len(flat), dtype=np.float32), np.cumsum([0, *sizes])
    return TrainingLists(number[:, None], -number, flat, indptr, ("number",))


def test_lists_are_selected_in_the_order_given_or_by_a_mask() -> None:
    lists = ragged([1, 0], [], [0, 1, 0])
    assert lists.select([2, 0]).features.ravel().tolist() == [2, 3, 4, 0, 1]
    assert lists.select([2, 0]).sizes.tolist() == [3, 2]
    masked = lists.select(np.array([True, True, False]))
    assert (masked.base.tolist(), masked.sizes.tolist()) == ([0, -1], [2, 0])


def test_lists_with_labels_of_one_sort_are_not_informative() -> None:
    lists = ragged([1, 0], [0, 0], [1, 1], [1], [], [0, 2])
    assert lists.informative().features.ravel().tolist() == [0, 1, 7, 8]
    assert ragged([1, 0]).informative().n_lists == 1
    assert ragged([0, 0]).informative().n_lists == 0
    assert ragged().informative().n_lists == 0


def test_columns_are_taken_by_name_and_joined_by_name() -> None:
    lists = chosen_lists(2, linear_utility)
    turned = lists.with_columns(lists.names[::-1])
    np.testing.assert_array_equal(turned.features, lists.features[:, ::-1])
    joined = TrainingLists.join([lists, turned])
    np.testing.assert_array_equal(joined.features[2 * SIZE :], lists.features)
    assert joined.indptr.tolist() == [0, SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE]
    with pytest.raises(BadData, match="no feature named price"):
        lists.with_columns(["price"])


def test_the_canonical_order_does_not_depend_on_the_order_that_lists_pairs_and_columns_came_in() -> None:
    lists = chosen_lists(30, linear_utility, missing=0.2)
    random = np.random.default_rng(1)
    shuffled = lists.select(random.permutation(30))
    within = np.concatenate([start + random.permutation(SIZE) for start in shuffled.indptr[:-1]])
    shuffled = replace(
        shuffled, features=shuffled.features[within], base=shuffled.base[within], labels=shuffled.labels[within]
    ).with_columns(random.permutation(lists.names).tolist())
    one, other = lists.canonical(), shuffled.canonical().with_columns(lists.names)
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert not np.array_equal(lists.features, one.features, equal_nan=True)


def test_ndcg_is_that_of_ten_places_and_nan_where_nothing_is_wanted() -> None:
    first_wanted, eleventh_wanted = [1.0] + [0.0] * 11, [0.0] * 10 + [1.0, 0.0]
    lists = ragged([0, 1], first_wanted, eleventh_wanted, [0, 0], [3, 1])
    assert lists.ndcg(lists.base).tolist()[:3] == pytest.approx([1 / np.log2(3), 1, 0])
    assert np.isnan(lists.ndcg(lists.base)[3])
    assert lists.ndcg(lists.base)[4] == pytest.approx(1)
    assert lists.ndcg(np.zeros(len(lists.base)))[0] == pytest.approx((1 + 1 / np.log2(3)) / 2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"base": np.array([np.nan, 1], np.float32)}, "not finite"),
        ({"labels": np.zeros(3, np.float32)}, "do not fit"),
        ({"names": ("a", "b")}, "do not fit"),
        ({"indptr": np.array([0, 1])}, "does not divide"),
        ({"names": ("a", "a"), "features": np.zeros((2, 2), np.float32)}, "the same name"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadData, match=complaint):
        replace(ragged([0, 1]), **change)  # type: ignore[arg-type]
