"""Unlike items next to each other."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ranking.ordering.diversity import METHODS, diversified

FAMILIES = np.repeat(np.eye(3, dtype=np.float32), 3, axis=0)[None]  # three families of three equal items
FALLING = np.linspace(1, 0.2, 9, dtype=np.float32)[None]

either = pytest.mark.parametrize("method", sorted(METHODS))


@either
def test_no_strength_leaves_the_order(method: str) -> None:
    assert diversified(method, FALLING, FAMILIES, 9, 0.0).tolist() == [[*range(9)]]


@either
def test_the_best_of_each_family_come_first_and_nothing_is_lost(method: str) -> None:
    order = diversified(method, FALLING, FAMILIES, 3, 0.8)
    assert order[0, :3].tolist() == [0, 3, 6]
    assert order[0, 3:].tolist() == [1, 2, 4, 5, 7, 8]


@either
def test_more_strength_never_gives_a_list_of_more_alike_items(method: str) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(20, 30, 4)).astype(np.float32)
    scores = -np.sort(-generator.normal(size=(20, 30)).astype(np.float32), axis=1)

    def likeness(strength: float) -> float:
        order = diversified(method, scores, vectors, 8, strength)[:, :8]
        shown = np.take_along_axis(vectors, order[:, :, None], axis=1)
        unit = shown / np.linalg.norm(shown, axis=2, keepdims=True)
        return float(np.clip(unit @ unit.transpose(0, 2, 1), 0, 1).mean())

    found = [likeness(strength) for strength in (0.0, 0.3, 0.6, 0.9)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 0.05


@either
def test_pads_stay_behind_and_pinned_items_in_front(method: str) -> None:
    scores = np.array([[9, 5, 4, 3, -np.inf, -np.inf]], np.float32)
    vectors = np.ones((1, 6, 2), np.float32)
    pinned = np.array([[False, False, False, True, False, False]])
    order = diversified(method, scores, vectors, 6, 0.7, pinned=pinned)
    assert order[0, 0] == 3
    assert order[0, -2:].tolist() == [4, 5]


@either
def test_a_batch_is_answered_as_each_of_its_requests(method: str) -> None:
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(7, 12, 5)).astype(np.float32)
    scores = generator.normal(size=(7, 12)).astype(np.float32)
    together = diversified(method, scores, vectors, 6, 0.5)
    alone = [diversified(method, scores[i : i + 1], vectors[i : i + 1], 6, 0.5)[0].tolist() for i in range(7)]
    assert together.tolist() == alone


@either
def test_equal_items_without_vectors_and_short_lists_are_answered(method: str) -> None:
    scores = np.array([[1.0, 1.0, 1.0]], np.float32)
    assert diversified(method, scores, np.zeros((1, 3, 2), np.float32), 10, 0.9).tolist() == [[0, 1, 2]]
    assert diversified(method, np.empty((1, 0), np.float32), np.empty((1, 0, 2), np.float32), 10, 0.9).shape == (1, 0)
    assert diversified(method, np.full((1, 2), -np.inf, np.float32), np.ones((1, 2, 2), np.float32), 2, 0.9).shape == (
        1,
        2,
    )


def test_the_determinant_is_the_greedy_one_of_the_textbook() -> None:
    generator = np.random.default_rng(2)
    vectors = np.abs(generator.normal(size=(1, 8, 8))).astype(np.float32)
    scores = np.zeros((1, 8), np.float32)
    unit = vectors[0] / np.linalg.norm(vectors[0], axis=1, keepdims=True)
    kernel = (unit @ unit.T).astype(np.float64)
    expected = [0]  # each item alone has the same volume
    for _ in range(3):
        rest = [item for item in range(8) if item not in expected]
        expected.append(
            max(rest, key=lambda item: np.linalg.slogdet(kernel[np.ix_([*expected, item], [*expected, item])])[1])
        )
    assert diversified("dpp", scores, vectors, 4, 1.0)[0, :4].tolist() == expected


def test_marginal_relevance_is_that_of_the_definition() -> None:
    generator = np.random.default_rng(3)
    vectors = np.abs(generator.normal(size=(1, 6, 3))).astype(np.float32)
    scores = np.linspace(1, 0, 6, dtype=np.float32)[None]
    unit = vectors[0] / np.linalg.norm(vectors[0], axis=1, keepdims=True)
    order = diversified("mmr", scores, vectors, 6, 0.4)[0].tolist()
    assert order in [list(one) for one in permutations(range(6))]
    for place, item in enumerate(order):
        chosen, rest = order[:place], order[place:]
        gain = {
            one: 0.6 * scores[0, one] - 0.4 * max((float(unit[one] @ unit[other]) for other in chosen), default=0.0)
            for one in rest
        }
        assert gain[item] >= max(gain.values()) - 1e-6
