"""Fits the linear kind: least softmax cross-entropy within lists, under a normal prior whose strength is validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.inputs import Inputs
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.lists import TrainingLists
from ranking.training.feature_ranker.listwise import ListwiseLoss, base_weight, spread_within_lists

PRIOR_SDS = (0.02, 0.05, 0.1, 0.25, 1.0)  # of a weight, for an input of spread 1; in the order of being tried
WIDEST = 0.02  # times the square root of the number of lists: the widest prior that few lists are trusted with
FOLDS = 4
FOLD_LISTS = 1_000  # lists that are enough to tell the strengths of the prior apart

Values = NDArray[np.float64]


class _Problem(NamedTuple):
    """Inputs of pairs, the base's last, and the mean of the prior of their weights."""

    pairs: NDArray[np.float32]  # [n_pairs, width + 1]
    expected: Values  # [width + 1]


def fit_linear(
    lists: TrainingLists, *, prior: LinearRanker | None = None, prior_sd: float | None = None
) -> tuple[LinearRanker, float]:
    """The linear ranker of some lists and the standard deviation of its prior, for inputs of spread 1.

    The prior of a feature's weight is normal around 0, that of the base's weight around the one it has alone; around
    the weights of `prior` for what that ranker reads, if it is given. `prior_sd` is its standard deviation, chosen of
    PRIOR_SDS by cross-validation over lists if None. Without a list that has both a wanted and an unwanted candidate
    the weights are those of the prior.
    """
    lists = lists.informative().canonical()
    inputs = _inputs(lists, prior)
    weight = base_weight(lists) if prior is None else prior.base_weight
    spread = spread_within_lists(lists)
    problem = _Problem(
        np.column_stack([inputs(lists.features), lists.base / np.float32(spread)]),
        np.append(_expected(inputs, lists.names, prior), weight * spread),
    )
    if prior_sd is None:
        prior_sd = _validated(problem, lists)
    found = _weights(problem, ListwiseLoss.of(lists), prior_sd) if lists.n_lists else problem.expected
    return LinearRanker(lists.names, inputs, found[:-1].astype(np.float32), float(found[-1] / spread)), prior_sd


def _inputs(lists: TrainingLists, prior: LinearRanker | None) -> Inputs:
    """Inputs of `lists`; what `prior` reads is standardised as it does, so that its weights mean the same."""
    inputs = Inputs.of(lists.features)
    if prior is None:
        return inputs
    mean, scale, flagged = inputs.mean.copy(), inputs.scale.copy(), set(inputs.flagged.tolist())
    for old, name in enumerate(prior.names):
        if name in lists.names and prior.inputs.scale[old] > 0:
            new = lists.names.index(name)
            mean[new], scale[new] = prior.inputs.mean[old], prior.inputs.scale[old]
            flagged |= {new} if old in prior.inputs.flagged else set()
    return replace(inputs, mean=mean, scale=scale, flagged=np.array(sorted(flagged), np.int64))


def _expected(inputs: Inputs, names: Sequence[str], prior: LinearRanker | None) -> Values:
    """The mean of the prior of each input's weight, float64 [inputs.width]."""
    if prior is None:
        return np.zeros(inputs.width)
    known = dict(zip(prior.inputs.names(prior.names), prior.weights.tolist(), strict=True))
    return np.array([known.get(name, 0.0) for name in inputs.names(names)])


def _validated(problem: _Problem, lists: TrainingLists) -> float:
    """The standard deviation of the prior that predicts lists it was not fitted on best, of PRIOR_SDS.

    A wider prior has to lower the loss by more than one standard error of the difference, and needs enough lists.
    """
    n_folds = min(FOLDS, lists.n_lists)
    if n_folds < 2:
        return PRIOR_SDS[0]
    fold = np.arange(lists.n_lists) % n_folds
    fold[FOLD_LISTS:] = -1  # the order of canonical lists is random
    losses = np.zeros((len(PRIOR_SDS), min(FOLD_LISTS, lists.n_lists)))
    for held_out in range(n_folds):
        fitted, loss = _part(problem, lists, (fold >= 0) & (fold != held_out))
        tested, tested_loss = _part(problem, lists, fold == held_out)
        weights: Values | None = None
        for strength, prior_sd in enumerate(PRIOR_SDS):
            weights = _weights(fitted, loss, prior_sd, weights)
            losses[strength, held_out::n_folds] = tested_loss(tested.pairs @ weights.astype(np.float32))[0]
    best = 0
    for wider in range(1, 1 + sum(prior_sd <= WIDEST * np.sqrt(lists.n_lists) for prior_sd in PRIOR_SDS[1:])):
        gain = losses[best] - losses[wider]
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            best = wider
    return PRIOR_SDS[best]


def _part(problem: _Problem, lists: TrainingLists, chosen: NDArray[np.bool_]) -> tuple[_Problem, ListwiseLoss]:
    return problem._replace(pairs=problem.pairs[chosen[lists.owners]]), ListwiseLoss.of(lists.select(chosen))


def _weights(problem: _Problem, loss: ListwiseLoss, prior_sd: float, start: Values | None = None) -> Values:
    """The likeliest weights, float64 [width + 1]; the base's, which is the last, is not below 0."""
    from scipy.optimize import minimize

    def penalised(weights: Values) -> tuple[float, Values]:
        losses, slopes = loss(problem.pairs @ weights.astype(np.float32))
        deviation = (weights - problem.expected) / prior_sd
        value = losses.sum() + deviation @ deviation / 2
        gradient = slopes.astype(np.float32) @ problem.pairs + deviation / prior_sd
        return float(value) / len(losses), gradient.astype(np.float64) / len(losses)

    start = problem.expected if start is None else start
    bounds = [(None, None)] * (len(start) - 1) + [(0.0, None)]
    found = minimize(
        penalised, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200, "ftol": 1e-7}
    )
    return np.asarray(found.x, np.float64)
