"""A release that orders by features: what it answers, what it says of it, and what it does where a part is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from second_stages import by_one, published

from engine_changes import changed, ids
from indexing.bundle.bundle import Bundle
from ranking.feature_ranker.lambdamart import LambdaMARTRanker
from retrieval.data.dataset import DataSet
from retrieval.errors import CorruptBundle, StaleArtefact
from serving.answering.second_stage import ABOUT, SecondStage
from serving.engine import Engine

TAKINGS = by_one("takings", -1.0)  # what was taken least first


def taken(engine: Engine, items: list[str]) -> list[int]:
    rows = engine.state.version.rows_of(items)
    return [int(engine.state.facts.figures.takings[row]) for row in rows]


def stage_folder(bundle: Path) -> Path:
    store = Bundle.open(bundle)
    name = store.current().second_stage
    assert name is not None
    return store.path_of("second_stage", name)


def test_candidates_come_in_the_order_of_the_ranker_and_the_answer_says_so(own_bundle: Path, data: DataSet) -> None:
    published(own_bundle, {"recommend": TAKINGS})
    engine, user = Engine.open(own_bundle, device="cpu"), data.user_ids[0]
    answer, before = engine.recommend(user_id=user, k=100), engine.recommend(user_id=user, k=100, rerank=False)
    assert (answer.reranked, before.reranked) == (("features",), ())
    assert set(ids(answer)) == set(ids(before))
    assert ids(answer) != ids(before)
    counts = taken(engine, ids(answer))
    assert counts == sorted(counts)
    places = {item: place for place, item in enumerate(ids(before), 1)}
    assert [hit.retrieval_rank for hit in answer.items] == [places[hit.item_id] for hit in answer.items]
    assert not engine.search("red mug").reranked  # whose order has no ranker


def test_without_the_package_of_its_ranker_a_release_answers_in_the_order_of_the_sources_and_says_so(
    own_bundle: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = LambdaMARTRanker(("takings",), "", -1.0)  # the sources' order turned round
    published(own_bundle, {"recommend": trees, "search": by_one("takings")})
    user = data.user_ids[0]
    with_it = Engine.open(own_bundle, device="cpu").recommend(user_id=user)
    monkeypatch.setattr("retrieval.extras.find_spec", lambda name: None if name == "lightgbm" else find_spec(name))
    engine = Engine.open(own_bundle, device="cpu")
    answer, sources = engine.recommend(user_id=user), engine.recommend(user_id=user, rerank=False)
    assert ids(answer) == ids(sources) != ids(with_it)
    assert (with_it.reranked, answer.reranked) == (("features",), ())
    (line,) = [line for line in answer.fallbacks if line.startswith("the order of the sources")]
    assert "pip install 'shortlist[lambdamart]'" in line
    assert "\n" not in line
    assert set(answer.fallbacks) - {line} == set(sources.fallbacks) == set(with_it.fallbacks)
    found = engine.search("red mug")
    assert (found.reranked, found.fallbacks) == (("features",), ())


def test_the_cross_encoder_waits_for_a_ranker_that_it_was_blended_with(
    own_bundle: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(own_bundle, {"recommend": LambdaMARTRanker(("takings",), "", 1.0)})
    monkeypatch.setattr("retrieval.extras.find_spec", lambda name: None if name == "lightgbm" else find_spec(name))
    engine = changed(Engine.open(own_bundle, device="cpu"), reranks=frozenset({"recommend", "search"}))
    assert engine.state.steps
    assert engine.recommend(user_id=data.user_ids[0]).reranked == ()
    assert engine.search("red mug").reranked == ("cross-encoder",)


def test_a_damaged_ranker_is_named_in_one_line_and_nothing_opens(own_bundle: Path) -> None:
    published(own_bundle, {"recommend": TAKINGS, "search": TAKINGS})
    folder = stage_folder(own_bundle)
    for path in sorted(folder.glob("*.json")):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptBundle) as caught:
            Engine.open(own_bundle, device="cpu")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    assert Engine.open(own_bundle, device="cpu").search("red mug").reranked == ("features",)


def test_a_second_stage_that_names_no_order_is_damaged_and_other_features_are_stale(
    engine: Engine, tmp_path: Path
) -> None:
    facts = engine.state.facts
    SecondStage({"search": TAKINGS}).write(tmp_path, facts)
    assert SecondStage.open(tmp_path, facts).ranker("search") is not None
    about = tmp_path / ABOUT
    about.write_text(json.dumps({"features": {"search": "of another version"}}), "utf-8")
    with pytest.raises(StaleArtefact, match="orders search by features of another version"):
        SecondStage.open(tmp_path, facts)
    about.unlink()
    with pytest.raises(CorruptBundle, match="does not name its orders"):
        SecondStage.open(tmp_path, facts)


def test_what_a_query_names_by_its_id_stays_in_front_of_what_features_say(own_bundle: Path, data: DataSet) -> None:
    published(own_bundle, {"search": TAKINGS})
    engine = Engine.open(own_bundle, device="cpu")
    most = data.item_ids[int(engine.state.facts.figures.takings.argmax())]
    answer = engine.search(most, k=5)
    assert answer.items[0].item_id == most
    assert [hit.score for hit in answer.items] == sorted((hit.score for hit in answer.items), reverse=True)
