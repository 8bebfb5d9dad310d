"""Trains the LambdaMART kind: LightGBM's trees by softmax cross-entropy within lists, with early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lambdamart import LARGEST, LambdaMARTRanker, require_lightgbm
from ranking.feature_ranker.lists import TrainingLists
from ranking.training.feature_ranker.listwise import ListwiseLoss, base_weight

if TYPE_CHECKING:
    from lightgbm import Dataset

SEEDS = 3  # models whose mean is the ranker: one alone differs by a tenth of what it brings
MAX_TREES, PATIENCE = 500, 40  # trees in all, and in a row without a new best, after which training ends
TREES = 100  # where nothing is validated
PARAMS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "min_sum_hessian_in_leaf": 0.1,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "metric": "None",
    "verbosity": -1,
}


def fit_lambdamart(
    lists: TrainingLists,
    valid: TrainingLists | None = None,
    *,
    seed: int = 0,
    trees: int | Sequence[int] = TREES,
    threads: int = 0,
) -> tuple[LambdaMARTRanker, tuple[int, ...]]:
    """SEEDS models of trees trained on `lists`, whose mean is the ranker, and the number of trees of each.

    With `valid`, each has as many as give it the highest nDCG@10 on that; else `trees`, one number or one for each.
    They are added to the base score with the weight that it has alone. `threads` of 0 are as many as there are cores.
    Raises MissingDependency without the extra `lambdamart`.
    """
    require_lightgbm()
    from lightgbm import early_stopping, train

    lists = lists.informative().canonical()
    weight = base_weight(lists)
    data = _dataset(lists, weight)
    if not lists.n_lists or not any(data.construct().feature_num_bin(column) for column in range(len(lists.names))):
        return LambdaMARTRanker(lists.names, (), weight), ()
    loss = ListwiseLoss.of(lists)
    checked = None if valid is None else valid.informative().with_columns(lists.names)

    def objective(scores: NDArray[np.float64], _: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        slopes = loss(scores)[1]
        chance = slopes + loss.target
        return slopes, chance * (1 - chance)

    def ndcg(scores: NDArray[np.float64], _: Dataset) -> tuple[str, float, bool]:
        assert checked is not None
        return "ndcg", float(checked.ndcg(scores).mean()), True

    models, kept = [], []
    for number, wanted in enumerate([trees] * SEEDS if isinstance(trees, int) else trees):
        booster = train(
            {**PARAMS, "objective": objective, "seed": SEEDS * seed + number, "num_threads": threads},
            data,
            num_boost_round=wanted if checked is None else MAX_TREES,
            valid_sets=[] if checked is None else [_dataset(checked, weight)],
            feval=None if checked is None else ndcg,
            callbacks=[] if checked is None else [early_stopping(PATIENCE, verbose=False)],
        )
        kept.append(booster.best_iteration if checked is not None else booster.num_trees())
        models.append(booster.model_to_string(num_iteration=kept[-1]))
    return LambdaMARTRanker(lists.names, tuple(models), weight), tuple(kept)


def _dataset(lists: TrainingLists, weight: float) -> Dataset:
    from lightgbm import Dataset

    return Dataset(
        np.clip(lists.features, -LARGEST, LARGEST),
        lists.labels,
        init_score=weight * lists.base.astype(np.float64),
        params={name: PARAMS[name] for name in ("max_bin", "min_data_in_leaf", "verbosity")},
    )
