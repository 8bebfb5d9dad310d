"""What an answer carries of why its items stand where they do: places, sources, causes, and only where it is asked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from second_stages import by_one

from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from serving.answering import pipeline
from serving.answering.second_stage import SecondStage
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE
from serving.explanation import Explanation
from serving.request import Answer, Hit, Request


def explanation_of(hit: Hit) -> Explanation:
    assert hit.explanation is not None
    return hit.explanation


def given_history(engine: Engine, user: str) -> list[tuple[str, str, float]]:
    """The events of a shopper as a request can give them."""
    state = engine.state
    events = state.user_contexts.of_user(user).events
    kinds = state.user_store.timeline.kinds
    ids = state.version.ids_of(events.items.rows)
    codes, times = events.kinds.tolist(), events.times.tolist()
    return [(item, kinds[kind], time / 1e6) for item, kind, time in zip(ids, codes, times, strict=True)]


def scores_of(answer: Answer) -> dict[str, float]:
    return {hit.item_id: hit.score for hit in answer.items}


def test_places_tell_the_rank_after_every_stage_that_changed_it(reranking: Engine) -> None:
    asked = {"text": "red mug", "k": 12, "diversity": 0.5}
    answer = reranking.search(**asked, explain=True)  # type: ignore[arg-type]
    moved = 0
    for place, hit in enumerate(answer.items, 1):
        places = explanation_of(hit).places
        assert places["retrieval"] == hit.retrieval_rank
        assert places["diversity"] == place
        assert list(places) == ["retrieval", "cross-encoder", "diversity"]
        moved += places["retrieval"] != places["cross-encoder"]
    assert moved


def test_the_shares_of_the_sources_sum_to_the_score_that_they_gave(engine: Engine, data: DataSet) -> None:
    plain = Engine(replace(engine.state, scores=frozenset(), steps=()))
    for hit in plain.recommend(user_id=data.user_ids[3], explain=True).items:
        sources = explanation_of(hit).sources
        assert sum(one.share for one in sources.values()) == pytest.approx(hit.score, rel=1e-4)
        assert {name for name, one in sources.items() if one.proposed} == set(hit.sources)
    best = [explanation_of(hit).sources for hit in plain.search("red mug", explain=True).items]
    assert [one["words"].place for one in best if "words" in one].count(1) >= 1


@pytest.mark.parametrize("user", [3, 11, 40])
def test_an_event_has_the_effect_that_asking_without_it_has(engine: Engine, data: DataSet, user: int) -> None:
    plain = Engine(replace(engine.state, scores=frozenset(), steps=()))
    history = given_history(plain, data.user_ids[user])
    asked = {"k": 120, "filter_seen": False}
    explained = plain.recommend(history=history, explain=True, **asked)  # type: ignore[arg-type]
    causes = explanation_of(explained.items[0]).events
    assert len(causes) > 3
    assert [abs(cause.effect) for cause in causes] == sorted((abs(one.effect) for one in causes), reverse=True)
    for cause in (causes[0], causes[-1]):
        without = [event for event in history if event[0] != cause.item_id]
        then = scores_of(plain.recommend(history=without, **asked))  # type: ignore[arg-type]
        for hit in explained.items[:5]:
            effect = {one.item_id: one.effect for one in explanation_of(hit).events}[cause.item_id]
            assert hit.score - then[hit.item_id] == pytest.approx(effect, abs=2e-3)


@pytest.mark.parametrize("feature", ["fused_gap", "towers_rank", "own_looked"])
def test_an_effect_is_on_the_score_of_the_features_where_they_ordered(
    engine: Engine, data: DataSet, feature: str
) -> None:
    by_feature = SecondStage({"recommend": by_one(feature)})
    ordered = Engine(replace(engine.state, scores=EVERY_GATE, steps=(), second_stage=by_feature))
    history = given_history(ordered, data.user_ids[11])
    asked = {"k": 120, "filter_seen": False}
    explained = ordered.recommend(history=history, explain=True, **asked)  # type: ignore[arg-type]
    assert explained.reranked == ("features",)
    moved = 0
    for cause in explanation_of(explained.items[0]).events[:4]:
        without = [event for event in history if event[0] != cause.item_id]
        then = scores_of(ordered.recommend(history=without, **asked))  # type: ignore[arg-type]
        for hit in (*explained.items[:3], *explained.items[-3:]):
            effect = {one.item_id: one.effect for one in explanation_of(hit).events}[cause.item_id]
            assert hit.score - then[hit.item_id] == pytest.approx(effect, abs=2e-3)
            moved += effect != 0
    assert moved


def test_a_stored_shopper_and_their_events_given_have_the_same_causes(engine: Engine, data: DataSet) -> None:
    user = next(user for user in data.user_ids if len(given_history(engine, user)) > 5)
    stored = engine.recommend(user_id=user, explain=True)
    state, request = engine.state, Request(user_id=user)
    whole = state.user_contexts.of_request(request)
    same = state.user_contexts.without(request, [np.empty(0, np.int64)])
    assert np.array_equal(whole.histories.items, same.histories.items)
    assert np.array_equal(whole.behaviour.history.rows, same.behaviour.history.rows)
    assert np.array_equal(whole.events.times, same.events.times)
    assert whole.gap == same.gap
    assert {cause.item_id for cause in explanation_of(stored.items[0]).events} <= {
        item for item, _, _ in given_history(engine, user)
    }


def test_an_item_of_the_cart_has_the_effect_that_a_cart_without_it_has(engine: Engine, data: DataSet) -> None:
    plain = Engine(replace(engine.state, scores=frozenset(), steps=()))
    cart = [data.item_ids[4], data.item_ids[17]]
    explained = plain.complete_cart(cart, k=110, explain=True)
    then = scores_of(plain.complete_cart(cart[1:], k=110))
    for hit in explained.items[:5]:
        effect = {one.item_id: one.effect for one in explanation_of(hit).events}[cart[0]]
        assert hit.score - then[hit.item_id] == pytest.approx(effect, abs=2e-3)


def test_a_word_has_the_effect_that_the_query_without_it_has(engine: Engine) -> None:
    plain = Engine(replace(engine.state, scores=frozenset(), steps=()))
    explained = plain.search("ceramic mug blue", k=120, explain=True, spellcheck=False)
    then = scores_of(plain.search("ceramic  blue", k=120, spellcheck=False))
    for hit in explained.items[:5]:
        effects = {cause.word: cause.effect for cause in explanation_of(hit).words}
        assert set(effects) == {"ceramic", "mug", "blue"}
        assert hit.score - then[hit.item_id] == pytest.approx(effects["mug"], abs=2e-3)


def test_the_cross_encoders_words_are_there_where_they_are_asked_for(reranking: Engine) -> None:
    asked = {"text": "ceramic mug blue", "k": 15}
    short, full = reranking.search(**asked, explain=True), reranking.search(**asked, explain="full")  # type: ignore[arg-type]
    assert [hit.item_id for hit in short.items] == [hit.item_id for hit in full.items]
    read = [explanation_of(hit) for hit in full.items]
    assert any(cause.logit_effect for one in read for cause in one.words)
    assert any(cause.logit_effect is None for one in read for cause in one.words)  # beyond the depth
    assert all(cause.logit_effect is None for hit in short.items for cause in explanation_of(hit).words)
    with pytest.raises(BadRequest, match="explain is 'all'; give True, False or \"full\""):
        Request(query="mug", explain="all")  # type: ignore[arg-type]


def test_requests_that_travel_together_are_explained_as_alone(engine: Engine, data: DataSet) -> None:
    requests = [Request(user_id=user, explain=True, k=4) for user in data.user_ids[:4]]
    together = pipeline.answer_many(engine.state, requests)
    for request, answer in zip(requests, together, strict=True):
        alone = engine.answer(request)
        for hit, other in zip(answer.items, alone.items, strict=True):
            assert explanation_of(hit).reasons == explanation_of(other).reasons
            causes = {one.item_id: one.effect for one in explanation_of(hit).events}
            assert causes == pytest.approx({one.item_id: one.effect for one in explanation_of(other).events}, abs=1e-3)


def test_an_answer_that_is_not_asked_to_be_explained_carries_nothing(engine: Engine, data: DataSet) -> None:
    answer = engine.recommend(user_id=data.user_ids[3])
    assert all(hit.explanation is None for hit in answer.items)
    assert "explanation" not in json.dumps(answer.to_dict())


def test_json_has_the_reasons_in_the_language_that_is_asked_for(engine: Engine) -> None:
    answer = engine.recommend(explain=True, k=3)
    english, chinese = (json.loads(json.dumps(answer.to_dict(language))) for language in (None, "zh"))
    assert english["items"][0]["explanation"]["reasons"] == ["popular this week"]
    assert chinese["items"][0]["explanation"]["reasons"] == ["本周热门"]
