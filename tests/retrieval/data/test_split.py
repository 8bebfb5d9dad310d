"""Splits: nobody trains on what measures them, and neither ids nor the order of rows mean anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from event_rows import DAY, START, Row, bought, dataset, events_of, returned, shop, told
from retrieval.data.dataset import DataSet, load
from retrieval.data.split import EVENT_FOLDS, EventSplit, split_events, split_judgements
from retrieval.errors import BadConfig, BadData


def renamed(rows: Iterable[Row]) -> list[Row]:
    """The same events of users and items whose ids sort and hash otherwise, in another order."""
    rows = [(f"x{row[0][::-1]}", f"y{row[1][::-1]}", row[2], row[3], row[4] and row[4][::-1]) for row in rows]
    return [rows[at] for at in np.random.default_rng(1).permutation(len(rows))]


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
        (["listen", "listen"], ("listen",)),
        (["Product Viewed", "Product Viewed", "Product Added", "Order Completed"], ("Order Completed",)),
        (["listen", "clicks", "carts", "orders"], ("orders",)),
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
    with pytest.raises(BadConfig, match="which are returns"):
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
