"""What is guessed of new items."""

from __future__ import annotations

import numpy as np

from retrieval.towers.cold_start import RIDGE, apply_linear_map, fit_linear_map

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(400, 5)).astype(np.float32)
LEARNED = (FEATURES @ RNG.normal(size=(5, 3)) + [1.0, -2.0, 0.5]).astype(np.float32)


def test_what_the_features_say_is_guessed_of_items_that_were_not_there() -> None:
    found = apply_linear_map(FEATURES[300:], fit_linear_map(FEATURES[:300], LEARNED[:300]))
    np.testing.assert_allclose(found, LEARNED[300:], atol=0.05)


def test_features_that_say_nothing_leave_the_mean() -> None:
    noise = RNG.normal(size=(400, 3)).astype(np.float32)
    found = apply_linear_map(FEATURES, fit_linear_map(FEATURES, noise))
    assert np.abs(found - noise.mean(axis=0)).max() < np.abs(noise - noise.mean(axis=0)).max() / 4


def test_a_guess_is_the_ridge_regression_worked_out_by_hand() -> None:
    features, learned = np.array([[1.0], [3.0]], np.float32), np.array([[2.0], [8.0]], np.float32)
    slope = 6 / (2 + RIDGE)  # products of what is left when both means, 2 and 5, are taken off
    np.testing.assert_allclose(fit_linear_map(features, learned), [[slope], [5 - 2 * slope]], rtol=1e-6)


def test_one_known_item_is_what_every_other_is_guessed_to_be() -> None:
    found = apply_linear_map(FEATURES, fit_linear_map(FEATURES[:1], LEARNED[:1]))
    np.testing.assert_allclose(found, np.tile(LEARNED[0], (400, 1)), atol=1e-6)
