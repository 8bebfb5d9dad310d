"""Fusion of sources: the weights that are fitted, and what they may not do."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.errors import BadBundle
from retrieval.sources.fusion import TOWERS, Fusion, fit_fusion, joined_rows, listwise_weights
from retrieval.topk import CSR, Hits


def lists_of(rng: np.random.Generator, weights: list[float], n: int = 400, size: int = 12) -> tuple[np.ndarray, ...]:
    """Lists in which one item is drawn by the softmax of its weighted features."""
    features = rng.normal(size=(n, size, len(weights)))
    chance = np.exp(features @ np.array(weights))
    chance /= chance.sum(axis=1, keepdims=True)
    labels = np.zeros((n, size))
    labels[np.arange(n), [rng.choice(size, p=line) for line in chance]] = 1
    return features.reshape(-1, len(weights)), labels.ravel(), np.arange(n + 1) * size


def test_weights_of_a_known_choice_are_found() -> None:
    features, labels, indptr = lists_of(np.random.default_rng(0), [1.5, 0.5, 0.0], n=3000)
    np.testing.assert_allclose(listwise_weights(features, labels, indptr), [1.5, 0.5, 0.0], atol=0.08)


def test_no_weight_is_below_0_and_the_scale_of_a_feature_does_not_matter() -> None:
    features, labels, indptr = lists_of(np.random.default_rng(1), [1.0, -2.0])
    weights = listwise_weights(features, labels, indptr)
    assert weights[1] == 0 < weights[0]
    scaled = listwise_weights(features * [1000.0, 0.001], labels, indptr)
    np.testing.assert_allclose(scaled * [1000.0, 0.001], weights, rtol=1e-3, atol=1e-6)


def test_what_is_expected_holds_until_lists_say_otherwise() -> None:
    features, labels, indptr = lists_of(np.random.default_rng(4), [2.0, 0.5], n=2000)
    nothing = listwise_weights(features * [1.0, 10.0], np.zeros(len(labels)), indptr, [1.0, 1.0])
    np.testing.assert_allclose(nothing, [1.0, 0.1], rtol=0.02)
    few, many = (listwise_weights(*cut(features, labels, indptr, n), [1.0, 1.0]) for n in (3, 2000))
    assert (np.abs(few - 1) < np.abs(many - 1)).all()
    np.testing.assert_allclose(many, [2.0, 0.5], atol=0.2)


def cut(features: np.ndarray, labels: np.ndarray, indptr: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """The first n lists."""
    return features[: indptr[n]], labels[: indptr[n]], indptr[: n + 1]


def test_a_feature_that_never_changes_gets_no_weight() -> None:
    features, labels, indptr = lists_of(np.random.default_rng(2), [1.0])
    flat = np.column_stack([features, np.full(len(features), 3.0), np.zeros(len(features))])
    assert listwise_weights(flat, labels, indptr)[1:].tolist() == [0, 0]
    assert listwise_weights(features, np.zeros(len(labels)), indptr).tolist() == [0]


def test_a_fusion_reads_only_what_counts_and_survives_json() -> None:
    features, labels, indptr = lists_of(np.random.default_rng(3), [1.0, -1.0, 0.5])
    fusion = fit_fusion([TOWERS, "noise", "words"], features, labels, CSR(indptr, np.arange(len(labels))), {})
    assert fusion.sources == ("words",)
    assert Fusion.of(fusion.as_json()) == fusion
    found = fusion({TOWERS: np.ones(2, np.float32), "words": np.array([0, 1], np.float32)})
    assert found.dtype == np.float32
    assert found[1] - found[0] == pytest.approx(fusion.weights["words"], rel=1e-5)


def test_without_any_request_the_towers_answer_alone() -> None:
    fusion = fit_fusion([TOWERS, "words"], np.zeros((0, 2)), np.zeros(0), CSR.empty(0), {TOWERS: 1.0, "words": 1.0})
    assert fusion == Fusion.of_towers()


@pytest.mark.parametrize("value", [-1.0, float("nan"), "1"])
def test_an_impossible_weight_is_named(value: object) -> None:
    with pytest.raises(BadBundle, match="words"):
        Fusion.of({TOWERS: 1.0, "words": value})


def test_candidates_of_several_sources_stand_once() -> None:
    first = Hits(np.array([[3, 1], [0, -1]]), np.zeros((2, 2), np.float32))
    second = Hits(np.array([[1, 2], [-1, -1]]), np.zeros((2, 2), np.float32))
    assert joined_rows([first, second], 5).indptr.tolist() == [0, 3, 4]
    assert joined_rows([first, second], 5).rows.tolist() == [1, 2, 3, 0]
