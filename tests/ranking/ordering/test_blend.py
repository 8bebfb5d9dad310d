"""The blend: what the two scores are worth is found again, never with a weight below 0."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from ranking.ordering.blend import MIN_LISTS, Blend, fit_blend
from retrieval.errors import BadBundle

LENGTH = 8


def scores_of(lists: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(0)
    logits, retrieval = random.normal(0, 2, lists * LENGTH), random.normal(0.5, 0.1, lists * LENGTH)
    return logits, retrieval, np.arange(lists + 1) * LENGTH


def one_taken(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    """One item of each list, chosen as a shopper of a multinomial logit chooses."""
    noisy = utility.reshape(-1, LENGTH) + np.random.default_rng(1).gumbel(size=(len(utility) // LENGTH, LENGTH))
    return (noisy == noisy.max(axis=1, keepdims=True)).astype(float).ravel()


def test_the_weights_of_a_choice_are_found_again() -> None:
    logits, retrieval, indptr = scores_of(4_000)
    blend = fit_blend(logits, retrieval, one_taken(0.8 * logits + 12.0 * retrieval), indptr)
    assert blend.logit > 0
    assert blend.retrieval / blend.logit == pytest.approx(15.0, rel=0.08)


def test_a_source_that_counts_for_more_than_in_retrievals_score_gets_the_difference() -> None:
    logits, towers, indptr = scores_of(4_000)
    words = np.random.default_rng(3).normal(0, 1, len(towers))
    fused, parts = 10.0 * towers + 0.2 * words, {"towers": towers, "words": words}
    blend = fit_blend(logits, fused, one_taken(0.8 * logits + 10.0 * towers + words), indptr, parts)
    weights = blend.source_weights({"towers": 10.0, "words": 0.2})
    assert weights["towers"] / weights["logit"] == pytest.approx(12.5, rel=0.15)
    assert weights["words"] / weights["logit"] == pytest.approx(1.25, rel=0.08)
    plain = fit_blend(logits, fused, one_taken(0.8 * logits + 10.0 * towers + words), indptr)
    assert plain.sources == {}
    blended = blend(logits, fused, parts)
    np.testing.assert_allclose(blend.rescaled(2.0, 3.0)(logits, fused, parts), 2 * blended + 3, atol=1e-5)
    assert not np.allclose(blended, blend(logits, fused))


def test_a_few_lists_move_what_a_source_counts_for_less_than_many_do() -> None:
    moved = []
    for lists in (30, 3_000):
        logits, towers, indptr = scores_of(lists)
        words = np.random.default_rng(3).normal(0, 1, len(towers))
        taken = one_taken(50.0 * words)  # it tells all
        moved.append(fit_blend(logits, 10.0 * towers, taken, indptr, {"words": words, "misleads": -words}))
    few, many = moved
    assert 0 < few.sources["words"] < 0.5 * many.sources["words"]
    assert "misleads" not in few.sources | many.sources


def test_graded_labels_are_predicted_by_the_sigmoid_of_the_blend() -> None:
    logits, retrieval, indptr = scores_of(4_000)
    labels = 1 / (1 + np.exp(-(0.5 * logits + 3.0 * retrieval - 2.0)))
    blend = fit_blend(logits, retrieval, labels, indptr)
    assert (blend.logit, blend.retrieval, blend.offset) == pytest.approx((0.5, 3.0, -2.0), abs=0.02)


def test_graded_lists_of_one_grade_are_part_of_what_is_predicted() -> None:
    logits, retrieval, indptr = scores_of(200)
    labels = 1 / (1 + np.exp(-logits))
    labels[: 100 * LENGTH] = 1.0  # as many lists of nothing but the highest grade
    predicted = 1 / (1 + np.exp(-fit_blend(logits, retrieval, labels, indptr)(logits, retrieval)))
    assert predicted.mean() == pytest.approx(labels.mean(), abs=0.01)


def test_the_mean_of_what_is_predicted_is_the_mean_of_what_was_taken() -> None:
    logits, retrieval, indptr = scores_of(500)
    labels = one_taken(logits)
    predicted = 1 / (1 + np.exp(-fit_blend(logits, retrieval, labels, indptr)(logits, retrieval)))
    assert predicted.mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_a_logit_that_differs_more_between_lists_than_within_them_does_not_saturate() -> None:
    logits, retrieval, indptr = scores_of(2_000)
    labels = one_taken(2.0 * logits)
    shifted = logits + np.repeat(np.random.default_rng(2).normal(0, 30, 2_000), LENGTH)
    blend = fit_blend(shifted, retrieval, labels, indptr)
    shown = 1 / (1 + np.exp(-blend(shifted, retrieval)))
    assert shown.mean() == pytest.approx(labels.mean(), abs=0.05)
    assert np.abs(blend(shifted, retrieval)).max() < 30
    assert blend.logit > 0


def test_a_score_that_misleads_has_no_weight_rather_than_one_below_0() -> None:
    logits, retrieval, indptr = scores_of(500)
    blend = fit_blend(logits, retrieval, one_taken(-1.0 * logits + 10.0 * retrieval), indptr)
    assert blend.logit == 0.0
    assert blend.retrieval > 5.0


def test_a_score_that_is_the_same_everywhere_changes_no_order() -> None:
    logits, retrieval, indptr = scores_of(200)
    blend = fit_blend(logits, np.full_like(retrieval, 0.7), one_taken(logits), indptr)
    assert blend.logit > 0.5
    assert blend.retrieval == 0.0


def test_lists_of_one_label_tell_nothing() -> None:
    logits, retrieval, indptr = scores_of(200)
    labels = one_taken(logits)
    for nothing in (np.zeros_like(labels), np.ones_like(labels)):
        assert fit_blend(logits, retrieval, nothing, indptr) == Blend()
        mixed = np.where(np.arange(len(labels)) < (MIN_LISTS - 1) * LENGTH, labels, nothing)
        assert fit_blend(logits, retrieval, mixed, indptr) == Blend()


def test_what_separates_perfectly_gets_weights_that_end_somewhere() -> None:
    logits, retrieval, indptr = scores_of(40)
    blend = fit_blend(logits, retrieval, one_taken(1e6 * logits), indptr)
    assert 1.0 < blend.logit < 100.0


def test_too_few_lists_leave_the_logit_alone() -> None:
    logits, retrieval, indptr = scores_of(MIN_LISTS - 1)
    assert fit_blend(logits, retrieval, one_taken(retrieval), indptr) == Blend()
    assert fit_blend(logits[:0], retrieval[:0], logits[:0], np.zeros(3, np.int64)) == Blend()


def test_empty_lists_and_lists_without_a_positive_are_passed_over() -> None:
    logits, retrieval, indptr = scores_of(300)
    labels = one_taken(logits)
    labels[: 50 * LENGTH] = 0
    with_empty = np.concatenate(([0, 0], indptr[1:], indptr[-1:]))
    told = fit_blend(logits[50 * LENGTH :], retrieval[50 * LENGTH :], labels[50 * LENGTH :], indptr[:251])
    found = fit_blend(logits, retrieval, labels, with_empty)
    assert found.logit == pytest.approx(told.logit, rel=0.02)


def test_a_blend_survives_its_own_record_and_refuses_what_is_no_number() -> None:
    blend = Blend(0.5, 2.0, -1.0)
    assert Blend.of(blend.as_json()) == blend
    assert "sources" not in blend.as_json()  # as releases of before have it
    with_sources = Blend(0.5, 2.0, -1.0, {"words": 0.25})
    assert Blend.of(json.loads(json.dumps(with_sources.as_json()))) == with_sources
    wrong = ({"sources": [1.0]}, {"sources": {"words": "1"}}, {"sources": {"words": -1.0}}, {"logit": -0.1})
    for other in ({"logit": "1"}, {"logit": float("nan")}, {"lexical": 1.0}, *wrong):
        with pytest.raises(BadBundle, match="not of this version"):
            Blend.of(other)


def test_a_pair_without_a_logit_has_no_blended_score() -> None:
    blended = Blend(1.0, 0.0)(np.array([np.nan, 1.0]), np.array([-np.inf, 1.0]))  # a pad of a shortlist, and a place
    assert np.isnan(blended[0])
    assert blended[1] == 1.0
