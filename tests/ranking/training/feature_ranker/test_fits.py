"""Fits of feature rankers: what is in the data is found, what is not changes nothing, and odd lists are no fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from feature_lists import SIZE, Floats, chosen_lists, interaction, linear_utility
from ranking.feature_ranker.lists import TrainingLists
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.training.feature_ranker.lambdamart import fit_lambdamart
from ranking.training.feature_ranker.linear import PRIOR_SDS, fit_linear
from ranking.training.feature_ranker.mlp import fit_mlp

FITS: dict[str, Callable[[TrainingLists], FeatureRanker]] = {
    "linear": lambda lists: fit_linear(lists)[0],
    "lambdamart": lambda lists: fit_lambdamart(lists, trees=40, threads=1)[0],
    "mlp": lambda lists: fit_mlp(lists, epochs=8)[0],
}


def ndcg(ranker: FeatureRanker, lists: TrainingLists) -> float:
    return float(lists.ndcg(ranker.score(lists.features, lists.base)).mean())


def test_linear_recovers_the_weights_of_a_choice() -> None:
    lists = chosen_lists(1_500, linear_utility)
    found, prior_sd = fit_linear(lists)
    assert prior_sd >= PRIOR_SDS[1]
    assert found.base_weight == pytest.approx(0.5, abs=0.06)
    raw = found.weights * found.inputs.scale
    np.testing.assert_allclose(raw, [1.5, -0.8, 0, 0, 0], atol=0.1)


def test_a_dozen_lists_move_linear_little_and_many_move_it_to_the_data() -> None:
    few, many = (fit_linear(chosen_lists(n, linear_utility))[0] for n in (12, 1_500))
    assert float(np.abs(few.weights).max()) < 0.4 * float(np.abs(many.weights).max())


@pytest.mark.parametrize("kind", ["lambdamart", "mlp"])
def test_an_interaction_that_linear_cannot_hold_is_found(kind: str) -> None:
    lists, test = chosen_lists(600, interaction), chosen_lists(300, interaction, seed=1)
    before = float(test.ndcg(test.base).mean())
    assert ndcg(FITS[kind](lists), test) > before + 0.1
    assert ndcg(FITS["linear"](lists), test) < before + 0.02


@pytest.mark.parametrize("kind", FITS)
def test_lists_that_say_nothing_leave_the_order_before(kind: str) -> None:
    lists = chosen_lists(20, linear_utility)
    nothing = replace(lists, labels=np.zeros_like(lists.labels))
    ranker = FITS[kind](nothing)
    order = np.argsort(ranker.score(lists.features, lists.base))
    np.testing.assert_array_equal(order, np.argsort(lists.base))
    assert not ranker.contributions(lists.features, lists.base)[:, :-1].any()


@pytest.mark.parametrize("kind", FITS)
def test_labels_that_follow_the_base_alone_keep_its_order(kind: str) -> None:
    def utility(features: Floats, base: Floats) -> Floats:
        return 3 * base

    ranker, test = FITS[kind](chosen_lists(400, utility)), chosen_lists(200, utility, seed=1)
    assert ndcg(ranker, test) > float(test.ndcg(test.base).mean()) - 0.02


@pytest.mark.parametrize("kind", FITS)
def test_what_is_missing_is_learned_from(kind: str) -> None:
    lists = chosen_lists(400, lambda features, base: 3 * (features[:, 0] > 1).astype(np.float32))
    features = lists.features.copy()
    hidden = features[:, 0] > 1
    features[hidden, 0] = np.nan
    lists = replace(lists, features=features)
    ranker = FITS[kind](lists)
    scores = ranker.score(lists.features, np.zeros_like(lists.base))
    assert scores[hidden].mean() > scores[~hidden].mean() + 1
    share = ranker.contributions(lists.features, lists.base)[:, 0]
    assert share[hidden].mean() > share[~hidden].mean() + 1


@pytest.mark.parametrize("kind", FITS)
def test_odd_columns_and_lists_are_no_fault(kind: str) -> None:
    lists = chosen_lists(60, linear_utility, missing=0.1)
    features = lists.features.copy()
    features[:, 2], features[:, 3] = 0.1, np.nan
    features[:: SIZE + 1, 4], features[1 :: SIZE + 1, 4] = np.inf, -np.inf
    features[5, 1] = np.finfo(np.float32).max
    odd = replace(lists, features=features)
    parts = [
        odd,
        replace(odd.select([0]), labels=np.zeros(SIZE, np.float32)),
        replace(odd.select([1]), labels=np.full(SIZE, 2.5, np.float32)),
        TrainingLists(features[:1], odd.base[:1], np.ones(1, np.float32), np.array([0, 1]), odd.names),
        TrainingLists(features[:0], odd.base[:0], odd.labels[:0], np.array([0, 0]), odd.names),
        TrainingLists(features[:3], odd.base[:3], np.array([0, 1, 3], np.float32), np.array([0, 3]), odd.names),
    ]
    for some in (TrainingLists.join(parts), odd.select([0]), odd.select([])):
        ranker = FITS[kind](some)
        assert np.isfinite(ranker.score(features, lists.base)).all()
        assert np.isfinite(ranker.contributions(features, lists.base)).all()


@pytest.mark.parametrize("kind", FITS)
def test_a_useless_feature_changes_next_to_nothing(kind: str) -> None:
    lists, test = chosen_lists(600, linear_utility), chosen_lists(300, linear_utility, seed=1)
    useful = lists.names[:2]
    with_noise, without = FITS[kind](lists), FITS[kind](lists.with_columns(useful))
    assert ndcg(with_noise, test) == pytest.approx(ndcg(without, test.with_columns(useful)), abs=0.02)


@pytest.mark.parametrize("kind", FITS)
def test_the_order_of_lists_candidates_and_columns_does_not_matter(kind: str) -> None:
    lists = chosen_lists(100, interaction, missing=0.1)
    random = np.random.default_rng(2)
    shuffled = lists.select(random.permutation(lists.n_lists))
    within = np.concatenate([start + random.permutation(SIZE) for start in shuffled.indptr[:-1]])
    shuffled = replace(
        shuffled, features=shuffled.features[within], base=shuffled.base[within], labels=shuffled.labels[within]
    )
    wanted = FITS[kind](lists).score(lists.features, lists.base)
    np.testing.assert_allclose(FITS[kind](shuffled).score(lists.features, lists.base), wanted, atol=1e-4)
    turned = shuffled.with_columns(lists.names[::-1])
    if kind != "lambdamart":  # LightGBM draws columns by their position
        np.testing.assert_allclose(FITS[kind](turned).score(lists.features[:, ::-1], lists.base), wanted, atol=1e-3)


def test_linear_with_a_prior_starts_from_an_earlier_rankers_weights() -> None:
    lists = chosen_lists(1_500, linear_utility, missing=0.1)
    earlier = fit_linear(lists.with_columns(lists.names[:2]))[0]
    few = chosen_lists(10, linear_utility, missing=0.1, seed=3)
    held = fit_linear(few, prior=earlier, prior_sd=0.01)[0]
    known = earlier.score(few.features[:, :2], few.base)
    np.testing.assert_allclose(held.score(few.features, few.base), known, atol=0.1)
    assert not np.allclose(fit_linear(few, prior_sd=0.01)[0].score(few.features, few.base), known, atol=0.5)
    assert set(held.names) == set(few.names)


def test_the_mlp_keeps_the_epoch_that_orders_the_validation_lists_best_and_says_how_it_goes() -> None:
    said: list[str] = []
    lists, valid = chosen_lists(300, interaction), chosen_lists(100, interaction, seed=1)
    ranker, epochs = fit_mlp(lists, valid, say=said.append)
    figures = [float(line.rpartition(" ")[2]) for line in said]
    assert epochs == 1 + int(np.argmax(figures))
    assert ndcg(ranker, valid) == pytest.approx(max(figures), abs=1e-4)
    again = fit_mlp(lists, epochs=epochs)[0]
    np.testing.assert_allclose(
        again.score(valid.features, valid.base), ranker.score(valid.features, valid.base), atol=1e-4
    )


def test_lambdamart_keeps_the_trees_that_order_the_validation_lists_best() -> None:
    lists, valid = chosen_lists(300, interaction), chosen_lists(100, interaction, seed=1)
    ranker, trees = fit_lambdamart(lists, valid, threads=1)
    assert all(5 < kept < 500 for kept in trees)
    assert trees == tuple(booster.num_trees() for booster in ranker.boosters)
    again = fit_lambdamart(lists, trees=trees, threads=1)[0]
    np.testing.assert_array_equal(again.score(valid.features, valid.base), ranker.score(valid.features, valid.base))
