"""What the release that answers is made of, told over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine_changes import changed
from feature_lists import chosen_lists, interaction
from ranking.training.feature_ranker.linear import fit_linear
from serving.answering.second_stage import SecondStage
from serving.engine import Engine
from serving.http.app import make_app
from serving.reporting.release_view import release_view


@pytest.fixture(scope="module")
def told(engine: Engine) -> Iterator[dict[str, Any]]:
    with TestClient(make_app(engine)) as client:
        yield client.get("/v1/bundle").raise_for_status().json()


def test_it_names_the_release_that_answers_and_what_its_index_was_chosen_from(
    engine: Engine, told: dict[str, Any]
) -> None:
    assert told["release"] == engine.release.id
    about: Any = engine.state.version.manifest.about
    assert told["index"]["kind"] == about["factory"]
    assert told["index"]["items"] == engine.state.version.size
    assert told["index"]["curve"] == about["choice"]["curve"]


def test_gates_are_told_in_words_and_as_cards(engine: Engine, told: dict[str, Any]) -> None:
    gates: Any = engine.release.gates
    assert len(told["verdicts"]) == len(gates)
    parts = sum(("verdict" in gate) + ("features" in gate) for gate in gates.values())
    assert len(told["gates"]) == parts
    assert {card["verdict"] for card in told["gates"]} <= {"proven", "likely", "no", "worse", "adopted"}


def test_quality_has_every_task_with_its_stages(engine: Engine, told: dict[str, Any]) -> None:
    evaluation: Any = engine.release.figures["evaluation"]
    assert {task["task"] for task in told["quality"]} == {"seen_kept", "seen_removed", *evaluation} - {"recommend"}
    (search,) = [task for task in told["quality"] if task["task"] == "search"]
    stages = {stage["stage"]: stage for stage in search["stages"]}
    assert stages["final"]["figures"] == evaluation["search"]["stages"]["final"]
    assert stages["bm25"]["title"] == "BM25"
    assert (stages["fused"]["ours"], stages["bm25"]["ours"]) == (True, False)


def test_sources_are_told_by_order_the_heaviest_first(engine: Engine, told: dict[str, Any]) -> None:
    assert told["sources"][0]["order"] == "recommend"
    for one in told["sources"]:
        weights = {source["source"]: source["weight"] for source in one["weights"]}
        assert weights == dict(engine.state.retriever.fusions[one["order"]].weights)
        assert list(weights.values()) == sorted(weights.values(), reverse=True)


def test_features_are_told_by_what_they_count(engine: Engine) -> None:
    lists = chosen_lists(60, interaction, missing=0.2)
    ranker = fit_linear(lists, prior_sd=0.5)[0]
    told = release_view(changed(engine, second_stage=SecondStage({"recommend": ranker})).state)["features"]
    assert [(one["order"], one["kind"], one["read"]) for one in told] == [("recommend", "linear", len(lists.names))]
    assert sum(one["share"] for one in told[0]["features"]) == pytest.approx(1)


def test_a_release_that_was_not_evaluated_tells_all_else(engine: Engine) -> None:
    bare = release_view(changed(engine, release=replace(engine.release, figures={}, gates={})).state)
    assert (bare["quality"], bare["gates"], bare["verdicts"]) == ([], [], [])
    assert bare["index"]["items"] == engine.state.version.size
    json.dumps(bare, allow_nan=False)
