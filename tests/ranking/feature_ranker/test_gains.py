"""Features by what they count for a ranker as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from feature_lists import chosen_lists, interaction
from plain_ranker import PlainRanker
from ranking.feature_ranker.gains import GAIN, feature_gains
from ranking.feature_ranker.lambdamart import LambdaMARTRanker
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.training.feature_ranker.lambdamart import fit_lambdamart
from ranking.training.feature_ranker.linear import fit_linear
from ranking.training.feature_ranker.mlp import fit_mlp

LISTS = chosen_lists(200, interaction, missing=0.2)
FITTED = {
    "linear": lambda: fit_linear(LISTS, prior_sd=0.5)[0],
    "lambdamart": lambda: fit_lambdamart(LISTS, trees=20, threads=1)[0],
    "mlp": lambda: fit_mlp(LISTS, epochs=5)[0],
}


@pytest.mark.parametrize("kind", FITTED)
def test_shares_sum_to_one_the_largest_first_and_what_decides_is_before_noise(kind: str) -> None:
    ranker = cast(FeatureRanker, FITTED[kind]())
    found = feature_gains(ranker)
    assert found is not None
    shares = list(found.shares.values())
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert set(found.shares) <= set(LISTS.names)
    effect = dict(zip(LISTS.names, np.abs(ranker.contributions(LISTS.features, LISTS.base)).mean(axis=0), strict=False))
    assert effect[next(iter(found.shares))] > effect[min(effect, key=lambda name: effect[name])]


def test_the_gain_of_trees_is_that_of_their_splits() -> None:
    ranker = cast(LambdaMARTRanker, FITTED["lambdamart"]())
    found = feature_gains(ranker)
    assert found is not None
    assert found.measure == GAIN
    gains = np.sum([booster.feature_importance("gain") for booster in ranker.boosters], axis=0)
    assert next(iter(found.shares)) == ranker.names[int(np.argmax(gains))]


def test_a_kind_of_another_package_and_trees_without_any_tell_nothing(tmp_path: Path) -> None:
    assert feature_gains(PlainRanker(("price",))) is None
    assert feature_gains(LambdaMARTRanker(("price",), (), 1.0)) is None
