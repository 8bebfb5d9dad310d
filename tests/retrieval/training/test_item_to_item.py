"""The closed-form reading of histories, against what it is the solution of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.topk import CSR
from retrieval.towers.cold_start import apply_linear_map
from retrieval.training import item_to_item as linear
from retrieval.training.item_to_item import BACKWARD, CATEGORY_PAIRS, DECAY, RIDGE, TEXT_PAIRS, ItemFactors, fit_factors
from retrieval.training.windows import Windows

Story: TypeAlias = Callable[[Sequence[Sequence[tuple[int, ...]]]], Events]
ITEMS, DAY = 6, 86_400_000_000
WALKS = ((0, 1, 2), (0, 1, 3), (4, 0, 1, 2), (5, 3), (2, 5, 3, 4))
TEXT = np.random.default_rng(3).standard_normal((ITEMS, 4)).astype(np.float32)
TEXT /= np.linalg.norm(TEXT, axis=1, keepdims=True)
CATEGORIES = [[0], [0, 1], [], [1], [0, 1], [2]]


def windows_of(walks: Sequence[Sequence[int]], n_items: int = ITEMS) -> Windows:
    """Each shopper takes one item a day."""
    item = np.array([item for walk in walks for item in walk], np.int32)
    user = np.repeat(np.arange(len(walks)), [len(walk) for walk in walks])
    nth = np.concatenate([np.arange(len(walk)) for walk in walks])
    none = np.full(len(item), -1, np.int32)
    events = Events(
        user=user.astype(np.int32), item=item, kind=np.zeros(len(item), np.int16), time=nth * DAY, query=none,
        basket=none, quantity=np.ones(len(item), np.float32), price=np.full(len(item), np.nan, np.float32),
        rating=np.full(len(item), np.nan, np.float32),
        offsets=np.concatenate(([0], np.cumsum([len(walk) for walk in walks]))).astype(np.int64),
        kinds=("purchase",), query_texts=(),
    )  # fmt: skip
    every = np.ones(len(item), bool)
    return Windows.build(events, every, every, 50)


def fit(windows: Windows, *, rank: int = ITEMS, text: NDArray[np.float32] = TEXT, longest: int = 50) -> ItemFactors:
    return fit_factors(
        windows, text, CSR.from_lists(CATEGORIES[: len(text)]), rank=rank, longest=longest, device="cpu", seed=0
    )


def by_hand() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two matrices of the regression: what stands together, and what follows what, pair by pair."""
    together, follows, alike = np.zeros((ITEMS, ITEMS)), np.zeros((ITEMS, ITEMS)), np.zeros((ITEMS, ITEMS))
    for walk in WALKS:
        for i, earlier in enumerate(walk):
            for j, later in enumerate(walk):
                together[earlier, later] += 1
                if i < j:
                    follows[earlier, later] += DECAY ** (j - i - 1)
    for a in range(ITEMS):
        for b in range(ITEMS):
            alike[a, b] = TEXT_PAIRS * float(TEXT[a] @ TEXT[b])
            for name in set(CATEGORIES[a]) & set(CATEGORIES[b]):
                alike[a, b] += CATEGORY_PAIRS / sum(name in names for names in CATEGORIES)
    return together + alike + RIDGE * np.eye(ITEMS), alike + follows + BACKWARD * follows.T


def test_the_factors_solve_the_ridge_regression_whose_items_say_nothing_of_themselves() -> None:
    found = fit(windows_of(WALKS))
    weights = (found.source @ found.target.T).astype(np.float64)
    gram, wanted = by_hand()
    np.testing.assert_allclose(np.diag(weights), 0, atol=1e-5)
    left = gram @ weights - wanted  # the gradient, which only the multipliers of the diagonal may hold up
    np.testing.assert_allclose(left - np.diag(np.diag(left)), 0, atol=2e-3)
    assert np.abs(weights).max() > 0.05


def test_what_follows_is_said_louder_than_what_went_before() -> None:
    text = np.eye(ITEMS, dtype=np.float32)  # nothing is alike
    found = fit_factors(
        windows_of([(0, 1)] * 300), text, CSR.from_lists([[]] * ITEMS), rank=ITEMS, longest=50, device="cpu", seed=0
    )
    weights = found.source @ found.target.T
    assert weights[0, 1] > 3 * weights[1, 0] > 0


def test_fewer_dimensions_keep_the_best_approximation() -> None:
    whole, cut = fit(windows_of(WALKS)), fit(windows_of(WALKS), rank=2)
    left, sizes, right = np.linalg.svd(whole.source @ whole.target.T)
    assert cut.source.shape == cut.target.shape == (ITEMS, 2)
    np.testing.assert_allclose(cut.source @ cut.target.T, (left[:, :2] * sizes[:2]) @ right[:2], atol=1e-5)


def test_only_the_newest_events_of_a_history_are_read() -> None:
    def follows(longest: int) -> NDArray[np.float32]:
        return linear._counts(windows_of([(0, 1, 2, 3)]), np.arange(4), longest)[0]

    assert follows(50)[0, 3] == pytest.approx(DECAY**2)
    assert follows(2)[0, 3] == 0
    assert follows(2)[1, 3] == pytest.approx(DECAY)


def test_items_beyond_the_most_taken_have_what_their_text_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "CORE_ITEMS", 4)
    found = fit(windows_of([(0, 1, 2, 3), (0, 1, 2, 3), (0, 4), (1, 5)]), rank=3)
    guessed = apply_linear_map(TEXT, found.from_text)
    np.testing.assert_allclose(np.hstack([found.source, found.target])[4:], guessed[4:], atol=1e-6)
    assert not np.allclose(np.hstack([found.source, found.target])[:4], guessed[:4], atol=1e-3)


def test_the_order_of_items_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(ITEMS)
    new_row = np.argsort(order)
    found = fit(windows_of(WALKS))
    moved = fit_factors(
        windows_of([[int(new_row[item]) for item in walk] for walk in WALKS]), TEXT[order],
        CSR.from_lists([CATEGORIES[row] for row in order]), rank=ITEMS, longest=50, device="cpu", seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(
        moved.source @ moved.target.T, (found.source @ found.target.T)[np.ix_(order, order)], atol=1e-5
    )


def test_many_items_are_cut_by_random_projections_close_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(300, 40, generator=torch.Generator().manual_seed(0)) @ torch.diag(0.8 ** torch.arange(40.0))
    weights = weights @ torch.randn(40, 300, generator=torch.Generator().manual_seed(1))
    exact = linear._factors(weights, 10, 0)
    monkeypatch.setattr(linear, "EXACT_SVD", 100)
    state = torch.random.get_rng_state()
    near = linear._factors(weights, 10, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_allclose(near[0] @ near[1].T, exact[0] @ exact[1].T, atol=0.05)


def test_louder_scales_what_is_said_and_what_a_text_would_say() -> None:
    found = fit(windows_of(WALKS), rank=3)
    loud = found.scaled(2.5)
    np.testing.assert_allclose(loud.source, 2.5 * found.source)
    np.testing.assert_array_equal(loud.target, found.target)
    np.testing.assert_allclose(loud.from_text[:, :3], 2.5 * found.from_text[:, :3])
    np.testing.assert_array_equal(loud.from_text[:, 3:], found.from_text[:, 3:])
