"""What each feature adds to a hit's score: together they are the score, of every kind of ranker, where it is asked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from feature_lists import chosen_lists, linear_utility
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.features.registry import features_of
from ranking.ordering.blend import Blend
from ranking.training.feature_ranker.choose import choose
from retrieval.data.dataset import DataSet
from serving.answering.batch import Batch
from serving.answering.explaining.contributions import about_contributions
from serving.answering.pipeline import run
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.answering.stages.rank import rank
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS
from serving.cli.show_why import reasons
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE
from serving.request import Request

KINDS = ("linear", "mlp", "lambdamart")


def ranker_of(kind: str, names: list[str]) -> FeatureRanker:
    """A ranker that learned something or other from these features."""
    if kind == "lambdamart":
        pytest.importorskip("lightgbm")
    train, valid = (
        replace(chosen_lists(n, linear_utility, n_features=len(names), missing=0.1, seed=n), names=tuple(names))
        for n in (320, 60)
    )
    chosen = choose(train, valid, [kind], seed=0, say=lambda _: None)
    assert chosen is not None
    return chosen.ranker


def with_ranker(state: ReleaseState, kind: str, *, search: bool = False) -> ReleaseState:
    """The release ordered by such a ranker and nothing else."""
    ranker = ranker_of(kind, list(features_of(state.facts, search=search))[:25])
    order = "search" if search else "recommend"
    return replace(state, scores=EVERY_GATE, second_stage=SecondStage({order: ranker}))


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_sum_to_the_score_of_the_ranker(engine: Engine, data: DataSet, kind: str) -> None:
    state = with_ranker(replace(engine.state, steps=()), kind)
    answer = Engine(state).recommend(user_id=data.user_ids[3], k=20, explain=True)
    ranker = state.second_stage.ranker("recommend")
    assert ranker is not None
    assert answer.reranked == ("features",)
    for hit in answer.items:
        assert set(hit.contributions) == {*ranker.names, "retrieval"}
        assert sum(hit.contributions.values()) == pytest.approx(hit.score, rel=1e-3, abs=1e-3)
    assert len({hit.contributions["retrieval"] for hit in answer.items}) > 1


def test_an_item_that_diversity_moved_keeps_its_own_contributions(engine: Engine, data: DataSet) -> None:
    features = Engine(with_ranker(replace(engine.state, steps=()), "linear"))
    asked = {"user_id": data.user_ids[3], "explain": True}
    plain = {hit.item_id: hit for hit in features.recommend(**asked, k=60).items}  # type: ignore[arg-type]
    moved = features.recommend(**asked, k=12, diversity=0.6).items  # type: ignore[arg-type]
    assert [hit.item_id for hit in moved] != list(plain)[:12]
    for hit in moved:
        assert hit.contributions == pytest.approx(plain[hit.item_id].contributions, rel=1e-3, abs=1e-3)
        assert sum(hit.contributions.values()) == pytest.approx(hit.score, rel=1e-3, abs=1e-3)


def test_contributions_are_there_where_they_are_asked_for_alone(engine: Engine, data: DataSet) -> None:
    features = Engine(with_ranker(engine.state, "linear"))
    asked = {"user_id": data.user_ids[3], "k": 5}
    plain, explained = features.recommend(**asked), features.recommend(**asked, explain=True)  # type: ignore[arg-type]
    assert [replace(hit, contributions={}, explanation=None) for hit in explained.items] == list(plain.items)
    assert not any(hit.contributions for hit in plain.items)
    assert all("contributions" not in hit for hit in plain.to_dict()["items"])  # type: ignore[attr-defined]
    told = json.loads(json.dumps(explained.to_dict()))
    assert [hit["contributions"] for hit in told["items"]] == [dict(hit.contributions) for hit in explained.items]
    fused = Engine(replace(engine.state, scores=frozenset())).recommend(**asked, explain=True)  # type: ignore[arg-type]
    assert not any(hit.contributions for hit in fused.items)


def test_what_the_cross_encoder_adds_is_beside_what_features_add(reranking: Engine) -> None:
    blend = Blend(2.0, 0.5, 0.25, {"words": 0.7})
    steps = tuple(replace(step, blends={"search": blend}) for step in reranking.state.steps)
    state = with_ranker(replace(reranking.state, steps=steps), "linear", search=True)
    request = Request(query="red mug", k=15, explain=True)
    batch = Batch(requests=LiveRequests([request]), task=TASKS["search"], k=15, explain=True)
    ranked = run(state, batch, until=rank)
    assert ranked.ranking is not None
    (answer,) = run(state, batch).answers
    assert answer.reranked == ("features", "cross-encoder")
    read = np.flatnonzero(ranked.ranking.read_by[0, :15] >= 0)
    assert 0 < len(read) < 15
    for at, hit in enumerate(answer.items):
        assert ("cross-encoder" in hit.contributions) == (at in read)
        if at in read:
            logit = float(ranked.ranking.logits[0, at])
            assert sum(hit.contributions.values()) == pytest.approx(logit, rel=1e-3, abs=1e-3)
            own = blend.retrieval * float(ranked.candidates.hits.scores[0, ranked.ranking.places[0, at]])
            words = blend.sources["words"] * float(
                ranked.candidates.hits.parts["words"][0, ranked.ranking.places[0, at]]
            )
            assert hit.contributions["cross-encoder"] == pytest.approx(logit - own - words, rel=1e-3, abs=1e-3)


def test_what_a_query_names_by_its_id_is_not_explained(engine: Engine, data: DataSet) -> None:
    state = with_ranker(replace(engine.state, steps=()), "linear", search=True)
    first, *others = Engine(state).search(data.item_ids[30], k=5, explain=True).items
    assert first.item_id == data.item_ids[30]
    assert not first.contributions
    assert all(hit.contributions for hit in others)


def test_reasons_are_the_largest_in_the_words_of_the_features(engine: Engine) -> None:
    about = about_contributions(engine.state.facts)
    assert set(features_of(engine.state.facts, search=False)) < set(about)
    told = reasons({"takings_7d": -0.5, "retrieval": 2.0, "hour": 0.1, "own_taken": 0.75}, about)
    assert told.startswith("+2.00 retrieval, the score of retrieval")
    assert "+0.75 own_taken, how often the shopper took the item" in told
    assert "-0.50 takings_7d, how often it was taken in the 7 days before" in told
    assert "hour" not in told
    assert reasons({"takings_7d": 0.0}, about) == ""


def test_reasons_can_be_read_in_chinese(engine: Engine) -> None:
    told = reasons({"takings_7d": -0.5, "retrieval": 2.0}, about_contributions(engine.state.facts, "zh"), "zh")
    assert (
        told == "+2.00 召回得分，以及所有候选商品共有的部分（retrieval）；-0.50 此前 7 天内被购买的次数（takings_7d）"
    )
