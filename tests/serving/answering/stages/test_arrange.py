"""The scores that are shown beside an order: never rising, though several models gave them."""

from __future__ import annotations

import numpy as np
import pytest
from rerank_fakes import HITS, logits_of, state_of, step_of

from ranking.models.cross_encoder import sigmoid
from ranking.ordering.blend import Blend
from retrieval.topk import Hits
from serving.answering.stages.arrange import shown_scores
from serving.answering.stages.rank import rerank


def test_scores_of_two_models_never_rise_down_the_list() -> None:
    state = state_of(step_of("shallow", 5), step_of("full", 3))
    shown = shown_scores(state, rerank(state, ["q"], HITS, "search", logits_of=logits_of))[0]
    wanted = sigmoid(np.array([3.0, 2.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(shown[:5], wanted, rtol=1e-6)
    assert shown[5] == shown[4]  # retrieval's 1.0 would stand above a chance of a half


def test_what_a_later_model_put_behind_is_capped_by_it() -> None:
    state = state_of(step_of("shallow", 6, search=Blend(1.0, 0.0, 10.0)), step_of("raw", 2))
    reranked = rerank(state, ["q"], HITS, "search", logits_of=logits_of)
    assert reranked.read_by.tolist() == [[1, 1, 0, 0, 0, 0]]
    shown = shown_scores(state, reranked)[0]
    assert shown[:2].tolist() == [2.0, 1.0]  # logits as they are
    assert (np.diff(shown) <= 0).all()
    assert shown[2] == pytest.approx(
        float(sigmoid(np.array([15.0]))[0])
    )  # below the 1.0 before it, by its own activation


def test_what_stands_first_by_its_name_has_no_less_than_what_follows() -> None:
    fixed = np.array([[True, False, False, False, False, False]])
    state = state_of(step_of("raw", 6))
    reranked = rerank(state, ["q"], Hits(HITS.rows, HITS.scores / 10), "search", fixed=fixed, logits_of=logits_of)
    shown = shown_scores(state, reranked)[0]
    assert reranked.hits.rows[0, 0] == 10
    assert shown[0] == shown[1] == 9.0
