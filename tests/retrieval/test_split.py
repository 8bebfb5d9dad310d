"""Splits: nobody trains on what measures them, and neither ids nor the order of rows mean anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.dataset import DataSet, load
from retrieval.errors import BadConfig, BadData
from retrieval.events import Events
from retrieval.report import CheckReport
from retrieval.split import EVENT_FOLDS, EventSplit, Requests, split_events, split_judgements

DAY = 86_400_000_000
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
Row = tuple[str, str, str, int, str | None]  # user, item, event, microseconds, basket


def dataset(rows: Sequence[Row]) -> DataSet:
    """A data set of these events, as `load` would make it."""
    users = tuple(sorted({row[0] for row in rows}))
    items = tuple(sorted({row[1] for row in rows}))
    kinds = tuple(sorted({row[2] for row in rows}))
    baskets = sorted({row[4] for row in rows if row[4] is not None})
    ordered = [row for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1][0], pair[1][3], pair[0]))]
    user = np.array([users.index(row[0]) for row in ordered], np.int32)
    events = Events(
        user=user,
        item=np.array([items.index(row[1]) for row in ordered], np.int32),
        kind=np.array([kinds.index(row[2]) for row in ordered], np.int16),
        time=np.array([row[3] for row in ordered], np.int64),
        query=np.full(len(rows), -1, np.int32),
        basket=np.array([-1 if row[4] is None else baskets.index(row[4]) for row in ordered], np.int32),
        quantity=np.ones(len(rows), np.float32),
        price=np.full(len(rows), np.nan, np.float32),
        offsets=np.searchsorted(user, np.arange(len(users) + 1)).astype(np.int64),
        kinds=kinds,
        query_texts=(),
    )
    return DataSet(
        items=pa.table({"item_id": items, "title": items}),
        item_ids=items,
        user_ids=users,
        events=events,
        queries=None,
        judgements=None,
        report=CheckReport(folder="", files=(), facts={}),
        fingerprint="",
    )


def events_of(data: DataSet) -> Events:
    assert data.events is not None
    return data.events


def told(data: DataSet, requests: Requests) -> list[tuple[str, int, list[str], list[str]]]:
    """User, time, history and targets of each request, in names."""
    events = events_of(data)
    return [
        (
            data.user_ids[requests.user[i]],
            int(requests.time[i]),
            [data.item_ids[row] for row in events.item[events.offsets[requests.user[i]] : requests.end[i]]],
            [data.item_ids[row] for row in requests.targets(i)],
        )
        for i in range(len(requests))
    ]


def bought(user: str, *purchases: str, basket: bool = False) -> list[Row]:
    """A purchase a day; with `basket`, each letter of a purchase is an item of it."""
    return [
        (user, item, "purchase", START + day * DAY, f"{user}{day}" if basket else None)
        for day, items in enumerate(purchases)
        for item in (items if basket else [items])
    ]


def shop(n_users: int, n_days: int, seed: int = 0) -> list[Row]:
    """Baskets at scattered times over `n_days`, of one to three items, with views and a few returns."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for user in range(n_users):
        for visit in range(int(rng.integers(3, 9))):
            time = START + int(rng.integers(n_days * DAY))
            items = rng.choice(40, int(rng.integers(1, 4)), replace=False)
            rows += [(f"u{user}", f"i{item}", "purchase", time, f"b{user}.{visit}") for item in items]
            rows.append((f"u{user}", f"i{int(rng.integers(40))}", "view", time - 60_000_000, None))
            if rng.random() < 0.2:
                rows.append((f"u{user}", f"i{items[0]}", "return", time + DAY, None))
    return rows


def renamed(rows: Iterable[Row]) -> list[Row]:
    """The same events of users and items whose ids sort and hash otherwise, in another order."""
    rows = [(f"x{row[0][::-1]}", f"y{row[1][::-1]}", row[2], row[3], row[4] and row[4][::-1]) for row in rows]
    return [rows[at] for at in np.random.default_rng(1).permutation(len(rows))]


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


def returned(user: str, item: str, day: float) -> Row:
    return (user, item, "return", START + int(day * DAY), None)


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


# temporal


def test_temporal_is_chosen_by_itself_and_its_windows_follow_each_other() -> None:
    data = dataset(shop(120, 300))
    split = split_events(data)
    assert split.kind == "temporal"
    assert split.target_events == ("purchase",)
    starts, ends = zip(*(split.windows[name] for name in EVENT_FOLDS), strict=True)
    assert ends[:-1] == starts[1:]
    assert ends[-1] - starts[-1] == 30 * DAY
    for name, (start, end) in split.windows.items():
        times = split.folds[name].time
        assert len(times)
        assert ((times >= start) & (times < end)).all()


def test_a_short_span_tests_on_its_last_part() -> None:
    split = split_events(dataset(shop(200, 40)))
    start, end = split.windows["test"]
    assert 5 * DAY < end - start < 6.1 * DAY


def test_nobodys_future_trains_anyone() -> None:
    data = dataset(shop(120, 300))
    split = split_events(data)
    first_held = split.windows["tower_valid"][0]
    assert (events_of(data).time[split.train] < first_held).all()
    for one, other in pairwise(EVENT_FOLDS):
        assert split.folds[one].time.max() < split.folds[other].time.min()


def test_what_trains_knows_of_no_later_return() -> None:
    rows = shop(120, 300)
    split = split_events(dataset(rows))
    in_train = next(row for row in rows if row[2] == "purchase" and row[3] < split.windows["tower_valid"][0] - 9 * DAY)
    later: Row = (in_train[0], in_train[1], "return", split.windows["test"][1] - 1, None)
    after = split_events(dataset([*rows, later]))
    assert after.train_target.sum() == split.train_target.sum()


def test_an_outlying_date_does_not_stretch_the_windows() -> None:
    rows = shop(120, 300)
    odd: Row = ("u0", "i0", "purchase", START - 30 * 365 * DAY, "odd")
    assert split_events(dataset([*rows, odd])).windows["tower_valid"][0] > START + 200 * DAY


def test_too_few_requests_for_windows_fall_back() -> None:
    split = split_events(dataset(shop(6, 60)))
    assert split.kind == "leave_one_out"
    assert "fewer than 20" in split.reason
    assert not split.windows


def test_positions_instead_of_dates_are_seen() -> None:
    rows = [row for n in range(60) for row in bought(f"u{n}", *(["a", "b", "c"] + ["d"] * (n % 30)), basket=True)]
    split = split_events(dataset(rows))
    assert split.kind == "leave_one_out"
    assert "positions" in split.reason


def test_one_timestamp_for_all_events_works() -> None:
    data = dataset([(row[0], row[1], row[2], START, None) for row in shop(30, 10)])
    assert len(split_events(data).folds["test"]) == 30
    data = dataset([(row[0], row[1], row[2], START, row[4]) for row in shop(30, 10)])
    assert split_events(data).kind == "leave_one_out"


# either


def both_splits(rows: Sequence[Row]) -> list[tuple[DataSet, EventSplit]]:
    data = dataset(rows)
    return [(data, split_events(data, kind=kind)) for kind in ("temporal", "leave_one_out")]


@pytest.mark.parametrize("seed", [0, 1])
def test_ids_and_the_order_of_rows_carry_no_meaning(seed: int) -> None:
    rows = shop(80, 300, seed)
    for (data, split), (other, again) in zip(both_splits(rows), both_splits(renamed(rows)), strict=True):
        assert {name: len(fold) for name, fold in split.folds.items()} == {n: len(f) for n, f in again.folds.items()}
        assert split.train.sum() == again.train.sum()
        assert split.train_target.sum() == again.train_target.sum()
        folds = EVENT_FOLDS if split.kind == "temporal" else ("test",)
        for name in folds:
            here = sorted(
                (user[::-1], t, sorted(x[::-1] for x in took)) for user, t, _, took in told(data, split.folds[name])
            )
            there = sorted(
                (user[1:], t, sorted(x[1:] for x in took)) for user, t, _, took in told(other, again.folds[name])
            )
            assert here == there


def test_no_target_stands_in_its_own_history_or_in_training() -> None:
    for data, split in both_splits(shop(100, 300, 3)):
        events = events_of(data)
        for fold in split.folds.values():
            assert (events.offsets[fold.user] <= fold.end).all()
            assert (events.user[fold.end] == fold.user).all()
            earlier = np.maximum(fold.end - 1, 0)
            own = events.user[earlier] == fold.user
            assert (events.time[earlier][own] < fold.time[own]).all()
            assert not split.train[fold.end].any()
        assert not (split.train_target & ~split.train).any()
        last_train = np.full(data.n_users, -1)
        np.maximum.at(last_train, events.user[split.train], np.flatnonzero(split.train))
        first_other = np.full(data.n_users, len(events))
        np.minimum.at(first_other, events.user[~split.train], np.flatnonzero(~split.train))
        assert (last_train < first_other).all()


def test_no_request_is_in_two_folds() -> None:
    for _, split in both_splits(shop(100, 300, 4)):
        seen = [
            (u, t) for fold in split.folds.values() for u, t in zip(fold.user.tolist(), fold.time.tolist(), strict=True)
        ]
        assert len(seen) == len(set(seen))


def test_select_takes_masks_and_positions() -> None:
    split = split_events(dataset(shop(100, 300)))
    test = split.folds["test"]
    some = test.select(np.array([5, 2]))
    assert some.targets(0).tolist() == test.targets(5).tolist()
    assert some.targets(1).tolist() == test.targets(2).tolist()
    assert some.end.tolist() == test.end[[5, 2]].tolist()
    mask = np.arange(len(test)) % 2 == 1
    odd = test.select(mask)
    assert len(odd) == mask.sum()
    assert odd.targets(0).tolist() == test.targets(1).tolist()
    assert len(test.select(np.zeros(len(test), bool))) == 0


# targets


@pytest.mark.parametrize(
    ("kinds", "targets"),
    [
        (["view", "cart", "purchase", "return"], ("purchase",)),
        (["view", "addtocart", "transaction"], ("transaction",)),
        (["pv", "fav", "cart", "Buy"], ("Buy",)),
        (["view", "add_to_cart"], ("add_to_cart",)),
        (["click", "view"], ("click",)),
        (["view"], ("view",)),
        (["listen", "listen", "skip"], ("listen",)),
    ],
)
def test_the_strongest_event_is_predicted(kinds: list[str], targets: tuple[str, ...]) -> None:
    data = dataset([("ann", "a", kind, START + at, None) for at, kind in enumerate(kinds)])
    assert split_events(data).target_events == targets


def test_targets_can_be_named() -> None:
    data = dataset([*bought("ann", "a", "b"), ("ann", "v", "view", START + 5 * DAY, None)])
    split = split_events(data, target_events=["view", "purchase"])
    assert told(data, split.folds["test"])[0][3] == ["v"]
    with pytest.raises(BadConfig, match="purchase, view"):
        split_events(data, target_events=["buy"])
    with pytest.raises(BadConfig, match="nothing"):
        split_events(data, target_events=[])


def test_impossible_splits_are_refused_in_a_line() -> None:
    data = dataset(bought("ann", "a", "b"))
    with pytest.raises(BadConfig, match="auto, temporal or leave_one_out"):
        split_events(data, kind="random")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="split is temporal, but"):
        split_events(data, kind="temporal")
    with pytest.raises(BadData, match="all events are returns"):
        split_events(dataset([returned("ann", "a", 1)]))
    with pytest.raises(BadConfig, match="only gives back"):
        split_events(dataset([*bought("ann", "a"), returned("ann", "a", 1)]), target_events=["return"])
    with pytest.raises(BadData, match=r"needs events\.parquet"):
        split_events(replace(data, events=None))


# real data


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "kind"), [("beauty", "leave_one_out"), ("online-retail", "temporal"), ("homedepot", "judgements' own")]
)
def test_real_data_sets_choose_their_split(name: str, kind: str) -> None:
    if "SHORTLIST_DATA" not in os.environ:
        pytest.skip("SHORTLIST_DATA is unset")
    data = load(Path(os.environ["SHORTLIST_DATA"]) / name)
    assert all(report.verdict == "good" for report in data.report.files)
    if data.has_search:
        assert kind in split_judgements(data).reason
        assert all(len(fold) > 500 for fold in split_judgements(data).folds.values())
    else:
        split = split_events(data)
        assert split.kind == kind
        assert all(len(split.folds[fold]) > 300 for fold in EVENT_FOLDS)
