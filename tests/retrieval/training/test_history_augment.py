"""Histories that a training step changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.data.timeline import HistoryBatch
from retrieval.training.history_augment import cropped, masked, reordered

SEEDS = st.integers(0, 10_000)


def histories(sizes: list[int]) -> HistoryBatch:
    """Histories padded at the front whose items are 0, 1, 2, ..., read at once."""
    length = max(sizes)
    place = np.arange(length) - (length - np.array(sizes))[:, None]
    present = place >= 0
    items = np.where(present, place, -1)
    return HistoryBatch(items, np.full_like(items, -1), np.where(present, items + 1, 0), np.abs(items), present)


def test_masking_hides_the_share_that_is_asked_for() -> None:
    present = histories([200] * 50).present
    left = masked(present, 0.3, np.random.default_rng(0))
    assert 0.67 < left.mean() < 0.73
    assert masked(present, 0.0, np.random.default_rng(0)).all()


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_cropped_history_is_its_newest_events_and_never_empty(seed: int, sizes: list[int]) -> None:
    present = histories(sizes).present
    left = cropped(present, 1.0, np.random.default_rng(seed))
    assert left.any(axis=1).all()
    assert not (left & ~present).any()
    assert (np.diff(left.astype(int), axis=1) >= 0).all()  # once it has begun it goes on to the newest


def test_cropping_takes_the_share_of_histories_and_every_beginning() -> None:
    present = histories([4] * 4_000).present
    left = cropped(present, 0.5, np.random.default_rng(0)).sum(axis=1)
    assert 0.60 < (left == 4).mean() < 0.65  # half are left alone, a quarter of the others begin at the first event
    assert set(left.tolist()) == {1, 2, 3, 4}


def moved(before: HistoryBatch, after: HistoryBatch) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = before.items != after.items
    return found


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_reordering_moves_one_short_stretch_and_asks_nothing_inside_it(seed: int, sizes: list[int]) -> None:
    before = histories(sizes)
    after, told = reordered(before, 1.0, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(after.items, axis=1), np.sort(before.items, axis=1))
    np.testing.assert_array_equal(after.kinds, np.where(after.present, after.items + 1, 0))  # kinds go with their items
    np.testing.assert_array_equal(after.gaps, before.gaps)
    np.testing.assert_array_equal(after.present, before.present)
    for line, size in enumerate(sizes):
        places = np.flatnonzero(moved(before, after)[line])
        assert not len(places) or places[-1] - places[0] < max(2, round(0.2 * size))
        # whatever is read up to a place that is told is what had been read up to it before: nothing of what comes next
        for place in np.flatnonzero(told[line]):
            assert sorted(after.items[line, : place + 1]) == sorted(before.items[line, : place + 1])
        assert told[line, -1]


def test_of_two_events_nothing_is_reordered_so_that_something_is_left_to_learn() -> None:
    before = histories([2] * 50)
    after, told = reordered(before, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(after.items, before.items)
    assert told.all()


def test_reordering_a_share_of_nothing_changes_nothing() -> None:
    before = histories([7, 1, 3])
    after, told = reordered(before, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(told, before.present)
