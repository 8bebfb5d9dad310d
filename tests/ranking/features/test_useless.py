"""A feature that says nothing, a shuffled copy of another, changes next to nothing in what is learned."""

from __future__ import annotations

import numpy as np
import pytest

from feature_lists import chosen_lists, linear_utility
from ranking.feature_ranker.lists import TrainingLists
from ranking.training.feature_ranker.choose import choose


def with_shuffled_copy(lists: TrainingLists, seed: int) -> TrainingLists:
    """The same with the first feature once more, its values drawn at random from all candidates."""
    shuffled = np.random.default_rng(seed).permutation(lists.features[:, 0])
    features = np.column_stack([lists.features, shuffled])
    return TrainingLists(features, lists.base, lists.labels, lists.indptr, (*lists.names, "shuffled"))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_useless_feature_changes_next_to_nothing(kind: str) -> None:
    train, valid = chosen_lists(400, linear_utility, seed=1), chosen_lists(300, linear_utility, seed=2)
    plain = choose(train, valid, [kind], seed=0, say=lambda _: None)
    more = choose(with_shuffled_copy(train, 3), with_shuffled_copy(valid, 4), [kind], seed=0, say=lambda _: None)
    assert plain is not None
    assert more is not None
    noisy = with_shuffled_copy(valid, 4)
    before = plain.ranker.score(valid.features, valid.base)
    after = more.ranker.score(noisy.features, noisy.base)
    gain = valid.ndcg(before).mean() - valid.ndcg(valid.base).mean()
    assert gain > 0.1
    assert abs(valid.ndcg(after).mean() - valid.ndcg(before).mean()) < 0.05 * gain
    given = more.ranker.contributions(noisy.features, noisy.base)
    shares = dict(zip((*more.ranker.names, "base"), np.abs(given - given.mean(axis=0)).mean(axis=0), strict=True))
    assert shares["shuffled"] < 0.1 * shares["feature 0"]
