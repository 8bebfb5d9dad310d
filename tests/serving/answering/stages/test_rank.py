"""Reranking: a later step orders the head of what an earlier one ordered, within the time that is left."""

from __future__ import annotations

import numpy as np
from rerank_fakes import HITS, logits_of, state_of, step_of

from engine_changes import with_markers
from ranking.ordering.blend import Blend
from retrieval.data.dataset import DataSet
from retrieval.text.rendering import user_text
from retrieval.topk import CSR, Hits
from serving.answering.rerank_steps import Step
from serving.answering.stages.rank import pair_logits, rerank, step_logits, user_texts
from serving.answering.user_context import UserContexts
from serving.engine import Engine
from serving.request import Request


def paced(step: Step, milliseconds: float) -> Step:
    """The step after a call that took so long for one pair."""
    step.latency.observe(1, milliseconds)
    return step


def test_a_cascade_puts_what_its_last_step_read_first() -> None:
    state = state_of(step_of("shallow", 5), step_of("full", 3))
    found = rerank(state, ["q"], HITS, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[11, 14, 13, 12, 10, 15]]  # 13, 14, 11 by the quick one, then among themselves
    assert found.logits[0, :5].tolist() == [3, 2, 1, 1, 0]  # each by the step that placed it
    assert np.isnan(found.logits[0, 5])
    assert found.places.tolist() == [[1, 4, 3, 2, 0, 5]]
    np.testing.assert_array_equal(found.hits.scores, HITS.scores)


def test_every_step_blends_its_logit_with_retrievals_score_of_the_same_item() -> None:
    retrieval_alone = step_of("full", 3, search=Blend(0.0, 1.0))
    found = rerank(state_of(step_of("shallow", 6), retrieval_alone), ["q"], HITS, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[11, 13, 14, 15, 12, 10]]
    assert found.logits[0, :3].tolist() == [5, 3, 2]
    told = HITS._replace(parts={"words": np.array([[0, 1, 0, 3, 2, 9]], np.float32)})
    words_alone = step_of("full", 3, search=Blend(0.0, 0.0, sources={"words": 2.0}))
    found = rerank(state_of(step_of("shallow", 6), words_alone), ["q"], told, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[13, 14, 11, 15, 12, 10]]
    assert found.logits[0, :3].tolist() == [6, 4, 2]


def test_a_deadline_lets_each_step_read_what_fits_of_the_time_that_is_then_left() -> None:
    state = state_of(paced(step_of("shallow", 5), 2.0), paced(step_of("full", 3), 10.0))
    times = iter([12.5, 25.0])
    found = rerank(state, ["q"], HITS, "search", logits_of=logits_of, left=lambda: next(times))
    assert found.depths == (5, 2)
    alone = state_of(step_of("shallow", 5), step_of("full", 2))
    np.testing.assert_array_equal(found.hits.rows, rerank(alone, ["q"], HITS, "search", logits_of=logits_of).hits.rows)


def test_a_later_step_reads_nothing_that_an_earlier_one_had_no_time_for() -> None:
    state = state_of(paced(step_of("shallow", 5), 10.0), paced(step_of("full", 3), 1.0))
    assert rerank(state, ["q"], HITS, "search", logits_of=logits_of, left=lambda: 25.0).depths == (2, 2)


def test_where_no_time_is_left_the_order_stays_as_it_was() -> None:
    state = state_of(step_of("full", 3))
    for left in (-1.0, 0.0):
        found = rerank(state, ["q"], HITS, "search", logits_of=logits_of, left=lambda left=left: left)  # type: ignore[misc]
        assert found.depths == (0,)
        np.testing.assert_array_equal(found.hits.rows, HITS.rows)
        assert np.isnan(found.logits).all()
    assert rerank(state, ["q"], HITS, "search", logits_of=logits_of).depths == (3,)


def test_without_a_deadline_even_one_place_is_read() -> None:
    assert rerank(state_of(step_of("full", 1)), ["q"], HITS, "search", logits_of=logits_of).depths == (1,)


def test_fixed_places_stay_through_all_steps() -> None:
    fixed = np.array([[True, False, False, False, False, False]])
    state = state_of(step_of("shallow", 6), step_of("full", 4))
    found = rerank(state, ["q"], HITS, "search", fixed=fixed, logits_of=logits_of)
    assert found.hits.rows.tolist() == [[10, 11, 14, 13, 15, 12]]
    assert np.isnan(found.logits[0, 0])


def test_without_a_step_nothing_moves() -> None:
    found = rerank(state_of(), ["q"], HITS, "search")
    np.testing.assert_array_equal(found.hits.rows, HITS.rows)
    assert np.isnan(found.logits).all()


def test_the_ranker_reads_the_query_then_the_newest_titles_of_each_user(engine: Engine, data: DataSet) -> None:
    state = with_markers(engine.state, marked=False)
    contexts = [state.user_contexts.of_request(Request(history=data.item_ids[:n])) for n in (6, 0, 1)]
    titles, limit = state.titles(data.item_ids[:6]), state.settings.titles
    found = user_texts(state, UserContexts.join(contexts), ["red mug", "lamp", ""])
    assert found == [user_text(titles[::-1], "red mug", limit=limit), "lamp", user_text(titles[:1])]
    assert user_texts(state, UserContexts.nobody(2), ["", ""]) == ["", ""]


def test_what_many_users_are_read_as_is_what_each_is_read_as_alone(engine: Engine, data: DataSet) -> None:
    for marked in (False, True):
        state = with_markers(engine.state, marked=marked)
        users = [state.user_contexts.of_user(user) for user in (*data.user_ids[:5], "nobody")]
        queries = ["red mug", "", "lamp", "", "oil", "saw"]
        alone = [user_texts(state, user, [query])[0] for user, query in zip(users, queries, strict=True)]
        assert user_texts(state, UserContexts.join(users), queries) == alone


def test_markers_change_what_is_read(engine: Engine, data: DataSet) -> None:
    user = engine.state.user_contexts.of_user(data.user_ids[0])
    plain, marked = (user_texts(with_markers(engine.state, marked=on), user, ["red mug"])[0] for on in (False, True))
    assert plain != marked


def test_a_request_of_which_nothing_is_known_and_a_pad_have_no_logit(engine: Engine) -> None:
    (step,) = engine.state.steps
    hits = Hits(np.array([[3, 5, -1], [3, 5, 7]]), np.zeros((2, 3), np.float32))
    logits = step_logits(engine.state, step, ["red mug", ""], hits)
    assert np.isfinite(logits).tolist() == [[True, True, False], [False, False, False]]
    pairs = pair_logits(engine.state, ["red mug", "lamp"], CSR.from_lists([[5, 3], []]))
    np.testing.assert_allclose(pairs, logits[0, [1, 0]], atol=1e-4)
