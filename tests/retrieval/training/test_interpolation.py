"""Weights between the pretrained and the tuned encoder are chosen on queries, and doubt speaks for the pretrained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_tiny_bert
from sentence_transformers import SentenceTransformer

from retrieval.topk import CSR
from retrieval.training.interpolation import SHARES, SearchTrial, cautious_share, interpolated, trial_scores
from retrieval.training.text_pairs import TextPairs

pytestmark = pytest.mark.usefixtures("one_thread")
ITEM_TEXTS = [f"{left} {right}" for left in ("red", "blue", "green", "steel", "wood") for right in "abcdefgh"]


def pairs_of(items: Sequence[int], grades: Sequence[float], owner: Sequence[int] | None = None) -> TextPairs:
    """Each pair's query is the text of its owner's item."""
    owners = np.asarray(items if owner is None else owner, np.int64)
    texts = tuple(ITEM_TEXTS[row] for row in owners)
    return TextPairs(texts, owners, np.asarray(items, np.int64), CSR.empty(40), np.asarray(grades, np.float32))


def test_queries_that_name_their_items_are_found_and_ordered(tiny_encoder_folder: Path) -> None:
    model = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    found = SearchTrial(pairs_of(range(40), [1.0] * 40), ITEM_TEXTS, np.random.default_rng(0))(model)
    np.testing.assert_allclose(found, 1.0)
    graded = pairs_of([3, 4, 9, 10], [1.0, 0.0, 0.0, 0.0], owner=[3, 3, 9, 9])
    found = SearchTrial(graded, ITEM_TEXTS, np.random.default_rng(0))(model)
    assert found[0] == pytest.approx(1.0)
    assert np.isnan(found[1]), "nothing answers it"


def test_the_order_of_what_was_judged_counts_as_much_as_what_is_found(tiny_encoder_folder: Path) -> None:
    model = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    wrong = pairs_of([3, 30], [0.0, 1.0], owner=[3, 3])  # the query's own text is judged to be no answer
    found = SearchTrial(wrong, ITEM_TEXTS, np.random.default_rng(0))(model)
    alone = SearchTrial(wrong.take(np.array([1])), ITEM_TEXTS, np.random.default_rng(0))(model)
    assert alone[0] < 0.5
    assert found[0] == pytest.approx((alone[0] + 1 / np.log2(3)) / 2)


def test_a_pair_that_is_given_twice_counts_once_with_its_best_grade(tiny_encoder_folder: Path) -> None:
    model, rng = SentenceTransformer(str(tiny_encoder_folder), device="cpu"), np.random.default_rng
    twice = SearchTrial(pairs_of([3, 3, 9], [0.5, 1.0, 1.0], owner=[3, 3, 3]), ITEM_TEXTS, rng(0))
    once = SearchTrial(pairs_of([3, 9], [1.0, 1.0], owner=[3, 3]), ITEM_TEXTS, rng(0))
    np.testing.assert_array_equal(twice(model), once(model))


def test_scores_are_of_the_weights_in_between_and_the_model_stays_as_tuned(
    tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    pretrained = SentenceTransformer(str(tiny_encoder_folder), device="cpu").state_dict()
    model = SentenceTransformer(str(save_tiny_bert(tmp_path / "other", seed=7)), device="cpu")
    tuned = {name: value.clone() for name, value in model.state_dict().items()}
    name = "0.model.encoder.layer.0.output.dense.weight"
    seen = []

    def trial(found: SentenceTransformer) -> np.ndarray:
        seen.append(found.state_dict()[name].clone())
        return np.zeros(2)

    assert trial_scores(model, pretrained, trial).shape == (len(SHARES), 2)
    for share, weights in zip(SHARES, seen, strict=True):
        torch.testing.assert_close(weights, (1 - share) * pretrained[name] + share * tuned[name])
    assert all(torch.equal(value, tuned[key]) for key, value in model.state_dict().items())
    assert torch.equal(interpolated(pretrained, tuned, 0.0)[name], pretrained[name])


def scores_of(means: Sequence[float], n: int, noise: float) -> np.ndarray:
    """Figures of n queries whose differences between weights have the deviation `noise`."""
    drawn = np.random.default_rng(3).normal(size=(len(means), n))
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
    return np.asarray(means)[:, None] + noise * drawn


def test_a_clear_gain_is_taken_and_a_doubtful_one_is_not() -> None:
    gain = [0.5, 0.52, 0.55, 0.58, 0.6]
    assert cautious_share(scores_of(gain, 400, 0.05)) == 1.0
    assert cautious_share(scores_of(gain, 25, 0.5)) == 0.0
    assert cautious_share(scores_of([0.6, 0.5, 0.5, 0.5, 0.5], 400, 0.05)) == 0.0
    assert cautious_share(scores_of([0.5, 0.55, 0.599, 0.6, 0.58], 400, 0.05)) == 0.5, "as good, and nearer"


def test_too_few_queries_leave_the_weights_as_pretrained() -> None:
    gain = scores_of([0.1, 0.5, 0.9, 0.9, 0.9], 19, 0.01)
    assert cautious_share(gain) == 0.0
    unanswered = np.full((len(SHARES), 30), np.nan)
    assert cautious_share(np.concatenate([gain, unanswered], axis=1)) == 0.0
    assert cautious_share(np.empty((len(SHARES), 0))) == 0.0
