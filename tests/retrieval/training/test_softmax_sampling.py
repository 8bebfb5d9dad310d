"""What a training step scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.training.softmax_sampling import CandidateSampler, shares

NONE = np.empty(0, np.int64)
N = 40


def sampler(*, full: int = 0, uniform: int = 6, hard: int = 0, log_q: bool = True) -> CandidateSampler:
    """Over forty items whose frequency falls."""
    frequency = torch.from_numpy((np.arange(N, 0, -1) / np.arange(1, N + 1).sum()).astype(np.float32))
    return CandidateSampler(frequency, torch.zeros(N), full, uniform, hard, log_q)


def ring() -> np.ndarray:
    """Vectors of items on a circle: those with numbers close by are alike."""
    angle = 2 * np.pi * np.arange(N) / N
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def test_a_small_catalogue_is_scored_as_a_whole_without_correction() -> None:
    drawn = sampler(full=N).draw(np.array([3]), NONE, np.random.default_rng(0))
    assert drawn.rows.tolist() == list(range(N))
    assert drawn.log_q is None


def test_targets_and_answers_are_all_candidates_once() -> None:
    drawn = sampler().draw(np.array([3, 3, 9]), np.array([11, 9]), np.random.default_rng(0))
    rows = drawn.rows.tolist()
    assert {3, 9, 11} <= set(rows)
    assert rows == sorted(set(rows))


@pytest.mark.parametrize("hard", [0, 2])
def test_the_correction_is_the_chance_of_standing_among_the_candidates(hard: int) -> None:
    drawn = sampler(hard=hard)
    drawn.find_neighbours(ring(), (1, 5))
    rng, held, said = np.random.default_rng(0), np.zeros(N), np.zeros(N)
    chance = drawn.frequency.double().numpy() / float(drawn.frequency.double().sum())
    for _ in range(4_000):
        found = drawn.draw(rng.choice(N, 9, p=chance), NONE, rng)
        assert found.log_q is not None
        held[found.rows.numpy()] += 1 / 4_000
        said[found.rows.numpy()] = found.log_q.exp().numpy()
    np.testing.assert_allclose(said, held, atol=0.04)


def test_without_the_correction_nothing_is_taken_off() -> None:
    drawn = sampler(log_q=False).draw(np.array([3]), NONE, np.random.default_rng(0))
    assert drawn.log_q is not None
    assert not drawn.log_q.any()


def test_neighbours_are_the_ranks_of_the_window_without_the_item_itself() -> None:
    drawn = sampler(hard=1)
    drawn.find_neighbours(ring(), (2, 6))
    assert drawn.neighbours is not None
    assert drawn.neighbours.rows.shape == (N, 4)
    apart = np.abs(drawn.neighbours.rows - np.arange(N)[:, None])
    apart = np.minimum(apart, N - apart)
    assert set(apart.ravel().tolist()) == {2, 3}  # the two items beside each stand at ranks 0 and 1
    assert float(drawn.neighbours.probability.sum()) == pytest.approx(1, abs=1e-5)


def test_a_window_beyond_the_catalogue_gives_what_there_is() -> None:
    drawn = sampler(hard=3)
    for window in ((1, 500), (N + 5, N + 9)):
        drawn.find_neighbours(ring(), window)
        found = drawn.draw(np.array([0]), NONE, np.random.default_rng(0))
        assert len(found.rows) > 1
        assert found.log_q is not None
        assert torch.isfinite(found.log_q).all()


def test_shares_sum_to_one_and_to_none_of_nothing() -> None:
    assert shares(np.array([1, 1, 2]), 4).tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert shares(NONE, 2).tolist() == [0, 0]
