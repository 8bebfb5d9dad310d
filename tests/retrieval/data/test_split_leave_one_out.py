"""The last request of each shopper tests: what is one request, and what a return takes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_rows import DAY, START, Row, bought, dataset, events_of, returned, told
from retrieval.data.split import EVENT_FOLDS, split_events

# leave one out


def test_the_last_request_tests_and_the_last_but_one_is_held_out() -> None:
    data = dataset(bought("ann", "a", "b", "c", "d"))
    split = split_events(data)
    assert split.kind == "leave_one_out"
    assert told(data, split.folds["test"]) == [("ann", START + 3 * DAY, ["a", "b", "c"], ["d"])]
    held = [request for name in EVENT_FOLDS[:-1] for request in told(data, split.folds[name])]
    assert held == [("ann", START + 2 * DAY, ["a", "b"], ["c"])]
    assert split.train.tolist() == split.train_target.tolist() == [True, True, False, False]


def test_two_requests_train_and_test_and_one_trains() -> None:
    data = dataset([*bought("ann", "a", "b"), *bought("bob", "c")])
    split = split_events(data)
    assert told(data, split.folds["test"]) == [("ann", START + DAY, ["a"], ["b"])]
    assert not any(len(split.folds[name]) for name in EVENT_FOLDS[:-1])
    assert split.train.tolist() == [True, False, True]


def test_views_between_the_held_requests_belong_to_no_training() -> None:
    rows = [
        *bought("ann", "a", "b", "c"),
        ("ann", "v", "view", START + DAY + 1, None),
        ("ann", "w", "view", START + 9 * DAY, None),
    ]
    data = dataset(rows)
    split = split_events(data)
    assert told(data, split.folds["test"])[0][2] == ["a", "b", "v"]
    assert split.train.tolist() == [True, False, False, False, False]


def test_users_are_dealt_to_the_folds_in_exact_shares() -> None:
    data = dataset([row for n in range(200) for row in bought(f"u{n}", "a", "b", "c")])
    folds = split_events(data).folds
    assert {name: len(folds[name]) for name in EVENT_FOLDS} == {
        "tower_valid": 20,
        "ranker_train": 90,
        "ranker_valid": 20,
        "gate": 70,
        "test": 200,
    }
    held = np.concatenate([folds[name].user for name in EVENT_FOLDS[:-1]])
    assert sorted(held.tolist()) == list(range(200))


@pytest.mark.parametrize("n_users", [1, 2, 3, 4, 7])
def test_few_users_fill_as_many_folds_as_they_can(n_users: int) -> None:
    folds = split_events(dataset([row for n in range(n_users) for row in bought(f"u{n}", *"abc")])).folds
    assert sum(len(folds[name]) > 0 for name in EVENT_FOLDS[:-1]) >= min(n_users, 4) - (n_users < 4)
    assert sum(len(folds[name]) for name in EVENT_FOLDS[:-1]) == len(folds["test"]) == n_users


def test_a_newcomer_moves_few_users_to_another_fold() -> None:
    rows = [row for n in range(200) for row in bought(f"u{n}", *"abc")]
    before, after = dataset(rows), dataset([*rows, *bought("newcomer", *"abc")])
    fold_of = [
        {data.user_ids[user]: name for name in EVENT_FOLDS[:-1] for user in split_events(data).folds[name].user}
        for data in (before, after)
    ]
    assert sum(fold_of[0][user] != fold_of[1][user] for user in before.user_ids) <= 3


def test_without_baskets_the_order_of_the_file_breaks_ties() -> None:
    data = dataset([("ann", item, "purchase", START, None) for item in "dacb"])
    assert told(data, split_events(data).folds["test"]) == [("ann", START, ["d", "a", "c"], ["b"])]


# baskets


def test_a_basket_is_one_request() -> None:
    data = dataset(bought("ann", "ab", "c", "de", basket=True))
    split = split_events(data, kind="leave_one_out")
    assert told(data, split.folds["test"]) == [("ann", START + 2 * DAY, ["a", "b", "c"], ["d", "e"])]
    assert split.train.tolist() == [True, True, False, False, False]


def test_a_basket_filled_over_an_hour_is_one_request_with_an_earlier_history() -> None:
    rows = [
        *bought("ann", "a", "b", basket=True),
        ("ann", "c", "purchase", START + DAY + 1, "ann1"),
        ("ann", "v", "view", START + DAY, None),
    ]
    data = dataset(rows)
    assert told(data, split_events(data, kind="leave_one_out").folds["test"]) == [
        ("ann", START + DAY, ["a"], ["b", "c"])
    ]


def test_baskets_of_one_instant_are_one_request() -> None:
    rows = [*bought("ann", "a", basket=True), *[("ann", item, "purchase", START + DAY, item) for item in "bc"]]
    data = dataset(rows)
    assert told(data, split_events(data, kind="leave_one_out").folds["test"]) == [
        ("ann", START + DAY, ["a"], ["b", "c"])
    ]


def test_a_basket_id_that_two_shoppers_share_joins_nothing() -> None:
    moves = [("x", "a"), ("y", "b"), ("x", "c"), ("y", "d")]
    data = dataset([(user, item, "purchase", START + at, "b1") for at, (user, item) in enumerate(moves)])
    split = split_events(data, kind="leave_one_out")
    assert not len(split.folds["test"])
    assert split.train.all()


def test_an_item_bought_twice_in_a_basket_is_one_target() -> None:
    data = dataset(bought("ann", "a", "bbc", basket=True))
    assert told(data, split_events(data, kind="leave_one_out").folds["test"])[0][3] == ["b", "c"]


# returns


def test_a_return_cancels_its_purchase_and_is_no_target() -> None:
    data = dataset([*bought("ann", "a", "b", "c", "d"), returned("ann", "d", 5)])
    split = split_events(data)
    assert told(data, split.folds["test"]) == [("ann", START + 2 * DAY, ["a", "b"], ["c"])]
    assert not split.train_target[events_of(data).is_return()].any()


def test_a_cancelled_purchase_stays_in_the_history() -> None:
    data = dataset([*bought("ann", "a", "b", "c", "d"), returned("ann", "a", 0.5)])
    split = split_events(data)
    assert told(data, split.folds["test"])[0][2] == ["a", "a", "b", "c"]
    assert split.train.tolist() == [True, True, True, False, False]
    assert split.train_target.tolist() == [False, False, True, False, False]


def test_a_return_after_training_ends_takes_nothing_from_training() -> None:
    data = dataset([*bought("ann", "a", "b", "c", "d"), returned("ann", "a", 2.5)])
    assert split_events(data).train_target.tolist() == [True, True, False, False, False]


def test_a_return_of_one_item_leaves_the_rest_of_the_basket() -> None:
    data = dataset([*bought("ann", "a", "bc", basket=True), returned("ann", "b", 2)])
    assert told(data, split_events(data, kind="leave_one_out").folds["test"])[0][3] == ["c"]


@given(st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("ab"), st.booleans(), st.integers(0, 5)), max_size=14))
@settings(max_examples=60, deadline=None)
def test_returns_cancel_the_latest_open_purchase(moves: list[tuple[str, str, bool, int]]) -> None:
    rows: list[Row] = [("w", "a", "purchase", START, None)]
    rows += [(user, item, "return" if back else "purchase", START + day, None) for user, item, back, day in moves]
    data = dataset(rows)
    events, split = events_of(data), split_events(data, kind="leave_one_out")
    order = sorted(range(len(events)), key=lambda at: (events.time[at], bool(events.is_return()[at]), at))
    open_purchases: dict[tuple[int, int], list[int]] = {}
    for at in order:
        purchases = open_purchases.setdefault((int(events.user[at]), int(events.item[at])), [])
        if not events.is_return()[at]:
            purchases.append(at)
        elif purchases:
            purchases.pop()
    standing = {at for purchases in open_purchases.values() for at in purchases}
    requests = [request for fold in split.folds.values() for request in fold.end.tolist()]
    assert set(requests) <= standing
    expected = sum(min(2, n - 1) for n in np.bincount(events.user[sorted(standing)]) if n >= 2) if standing else 0
    assert len(requests) == expected
