"""What is predicted is chosen by rules that are told, and what was given back or disliked is not predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_sets import N_EVENTS, NOW, events, replaced, shop
from event_rows import DAY, START, Row, dataset, events_of
from retrieval.data.dataset import check, load
from retrieval.data.events import Events
from retrieval.data.split import split_events
from retrieval.data.targets import targets_of_events, usual_min_rating
from retrieval.errors import BadConfig


def of_kinds(*kinds: str) -> Events:
    return events_of(dataset([("ann", f"i{at}", kind, START + at * DAY, None) for at, kind in enumerate(kinds)]))


def rated(*ratings: float) -> Events:
    found = of_kinds(*["purchase"] * len(ratings))
    return replace(found, rating=np.array(ratings, np.float32))


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        (["view", "Kauf"], "Kauf, 1 of 2 events, because the name tells of a purchase"),
        (["view", "cart"], "cart, 1 of 2 events, because the name tells of a cart, and none of a stronger interest"),
        (["call", "call"], "call, 2 of 2 events, because there is no other kind"),
    ],
)
def test_the_choice_is_told_with_its_reason(kinds: list[str], line: str) -> None:
    assert str(targets_of_events(of_kinds(*kinds))) == line


def test_kinds_of_which_none_is_known_are_asked_for() -> None:
    data = dataset([("ann", f"i{at}", kind, START + at, None) for at, kind in enumerate(["skip", "listen", "listen"])])
    with pytest.raises(BadConfig) as caught:
        split_events(data)
    assert "listen (2), skip (1)" in str(caught.value)
    assert """--set data.target_events='["listen"]'""" in str(caught.value)
    assert "\n" not in str(caught.value)
    split = split_events(data, target_events=["listen"])
    assert split.predicted == "listen, 2 of 3 events, as data.target_events says"


def test_check_names_the_targets_and_the_kinds_it_does_not_know(tmp_path: Path) -> None:
    kinds = replaced(replaced(events()["event"], 0, "call"), 1, "Order Completed")
    report = check(shop(tmp_path, events=events(event=kinds)), now=NOW)
    assert str(report.facts["target events"]).startswith("Order Completed, purchase, 200 of 300 events")
    assert any("not known: call (1)" in note for note in report.notes)


def test_check_tells_what_a_run_will_ask(tmp_path: Path) -> None:
    kinds = ["listen" if n % 2 else "skip" for n in range(N_EVENTS)]
    report = check(shop(tmp_path, events=events(event=kinds)), now=NOW)
    assert "target events" not in report.facts
    assert any("a run stops here" in note and "data.target_events" in note for note in report.notes)


# what was given back


def rows(*moves: tuple[str, float], basket: str | None = None) -> Events:
    """Moves of ann on one item, a day each; a negative quantity is a return."""
    events: list[Row] = [("ann", "a", "purchase" if n > 0 else "return", START + at * DAY, basket)
                         for at, (_, n) in enumerate(moves)]  # fmt: skip
    found = events_of(dataset(events))
    return replace(found, quantity=np.array([abs(n) for _, n in moves], np.float32))


@pytest.mark.parametrize(
    ("quantities", "cancelled"),
    [
        ([12, 2, -12], [0]),  # the latest of which enough was bought
        ([12, 2, -1], [1]),
        ([1, 1, -2], [0, 1]),  # none is enough alone
        ([5, 5, -2, -3], [1]),  # what is left of the same purchase
        ([5, 5, -5, -5], [0, 1]),
        ([-1, 3], []),  # nothing earlier
        ([2, -9], [0]),
        ([1, -1, 1], [0]),
    ],
)
def test_a_return_cancels_what_it_gives_back(quantities: list[int], cancelled: list[int]) -> None:
    targets = targets_of_events(rows(*(("", n) for n in quantities)))
    assert np.flatnonzero(targets.cancelled_by >= 0).tolist() == cancelled
    assert targets.alive().sum() == sum(n > 0 for n in quantities) - len(cancelled)


def test_a_return_cancels_the_purchase_of_its_basket() -> None:
    found = events_of(
        dataset([
            ("ann", "a", "purchase", START, "b1"),
            ("ann", "a", "purchase", START + DAY, "b2"),
            ("ann", "a", "return", START + 2 * DAY, "b1"),
        ])
    )  # fmt: skip
    assert np.flatnonzero(targets_of_events(found).cancelled_by >= 0).tolist() == [0]


def test_a_purchase_of_less_than_nothing_is_a_return(tmp_path: Path) -> None:
    quantity = [1.0] * N_EVENTS
    table = events(quantity=replaced(quantity, 2, -1.0), event=["purchase"] * N_EVENTS)
    table["user_id"], table["item_id"] = ["u0"] * N_EVENTS, [f"i{n // 3}" for n in range(N_EVENTS)]
    data = load(shop(tmp_path, events=table), now=NOW, rejected=tmp_path / "rejected.parquet")
    assert events_of(data).is_return().sum() == 1
    split = split_events(data)
    assert "1 of them cancelled by returns" in split.predicted
    (remark,) = data.report.files[1].remarks
    assert (remark.rows, remark.first_row, remark.action) == (1, 2, "read as a return")
    assert data.report.files[1].verdict == "good"
    assert not (tmp_path / "rejected.parquet").exists()
    assert data.report.facts["returns"] == {"in all": 1, "without an earlier event that they cancel": 0}


def test_a_cart_of_less_than_nothing_is_set_aside(tmp_path: Path) -> None:
    table = events(event=replaced(events()["event"], 4, "Product Added"), quantity=replaced([1.0] * N_EVENTS, 4, -1.0))
    data = load(shop(tmp_path, events=table), now=NOW, rejected=tmp_path / "rejected.parquet")
    assert len(events_of(data)) == N_EVENTS - 1
    assert pq.read_table(tmp_path / "rejected.parquet")["row"].to_pylist() == [4]


# ratings


@pytest.mark.parametrize(
    ("ratings", "least"),
    [
        ([1, 5], 3),
        ([4.5, 4], 3),
        ([7, 2], 5),
        ([88, 1], 50),
        ([0, 1], 0.5),
        ([300], None),
        ([np.nan], None),
        ([0], None),
    ],
)
def test_the_usual_threshold_follows_the_scale(ratings: list[float], least: float | None) -> None:
    assert usual_min_rating(rated(*ratings)) == least


def test_a_low_rating_is_not_wanted() -> None:
    found = rated(1, 2.5, 3, 5, np.nan, 0)
    targets = targets_of_events(found)
    assert targets.wanted.tolist() == [False, False, True, True, True, True]
    assert "2 more left out for a rating below 3" in str(targets)
    assert targets_of_events(found, min_rating=None).wanted.all()
    assert targets_of_events(found, min_rating=4).wanted.tolist() == [False, False, False, True, True, True]


def test_a_threshold_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"data\.min_rating is 3"):
        targets_of_events(rated(1, 2))


def test_dislikes_are_left_out_on_a_scale_of_two() -> None:
    assert targets_of_events(rated(0, 1)).wanted.tolist() == [False, True]
