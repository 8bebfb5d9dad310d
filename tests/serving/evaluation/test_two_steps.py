"""The gate of two steps: each part of the second stage is credited with its own effect, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from second_stages import by_one

from engine_changes import by_towers_alone, with_fusion
from ranking.training.pairs import members
from retrieval.data.requests import Requests
from retrieval.sources.fusion import Fusion
from retrieval.topk import Hits
from serving.answering.release_settings import features_passed, gates_passed
from serving.answering.second_stage import SecondStage
from serving.engine import Engine
from serving.evaluation.batch_requests import KnownLogits
from serving.evaluation.evaluator import Measurement
from serving.evaluation.gate_report import decided, features_decided
from serving.evaluation.reranking import compared, ranked
from serving.fitting.fit_blend import fitted_on, valid_shortlists
from serving.settings import RunSettings
from serving.shop import Shop

if TYPE_CHECKING:
    from serving.answering.rerank_steps import Step

Open = Callable[[Path, RunSettings], Shop]
NEWEST_FIRST = {"recommend": Fusion({"towers": 1e-3, "co_occurrence": 1e-3, "newness": 9.0})}  # far from the best


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    """All requests of past shoppers in the gate's fold and in that of the blends, for the tiny shop has few."""
    shop = open_shop(sample_folder, quick_settings)
    assert shop.events is not None
    folds = shop.events.folds
    many = Requests.join([folds[name] for name in ("gate", "ranker_train", "ranker_valid", "test")])
    return replace(
        shop, events=replace(shop.events, folds={**folds, "gate": many, "ranker_valid": many}), judgements=None
    )


@pytest.fixture
def measured(engine: Engine, shop: Shop) -> Measurement:
    """A release without features, whose sources are weighed badly."""
    state = with_fusion(engine.state, **NEWEST_FIRST)
    state = replace(state, second_stage=SecondStage(), steps=tuple(replace(one, depth=100) for one in state.steps))
    return Measurement(state, shop, rerank_sample=0)


def gates(
    measured: Measurement, monkeypatch: pytest.MonkeyPatch, logits: Callable[..., np.ndarray]
) -> tuple[Measurement, dict]:
    """Step 2 of the gate with a cross-encoder that gives these logits, its blends fitted as a run fits them."""
    monkeypatch.setattr(KnownLogits, "of", logits)
    state = measured.state
    steps = fitted_on(valid_shortlists(state, measured.shop), state, say=lambda _: None).steps
    fitted = replace(measured, state=replace(state, steps=steps))
    return fitted, decided(fitted, "likely", {}, say=lambda _: None)


def noise(_: object, step: Step, requests: np.ndarray, texts: list[str], hits: Hits, what: str) -> np.ndarray:
    """By item and request alone, so that every order of a shortlist gets the same."""
    return np.sin(1e4 * (hits.rows + 1) + 7.0 * requests[:, None]).astype(np.float32)


def test_a_cross_encoder_of_noise_gets_no_though_weighing_anew_helps(
    measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, found = gates(measured, monkeypatch, noise)
    parts = fitted.gate_requests("recommend")
    orders = [ranked(fitted.state, part, "test") for part in parts]
    assert compared(parts, [part.hits for part in parts], [one.reweighed for one in orders]).verdict == "proven"
    assert compared(parts, [part.hits for part in parts], [one.reranked for one in orders]).verdict == "proven"
    assert (found["recommend"]["verdict"], found["recommend"]["on"]) == ("no", False)
    assert "recommend" not in gates_passed(found)


def test_a_cross_encoder_that_knows_what_was_taken_passes(
    measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = {len(part): part.targets for part in measured.gate_requests("recommend")}

    def knows(_: object, step: Step, requests: np.ndarray, texts: list[str], hits: Hits, what: str) -> np.ndarray:
        (wanted,) = targets.values()
        return members(hits.rows, wanted.select(requests)).astype(np.float32)

    monkeypatch.setattr("serving.evaluation.evaluator.GATES", ("recommend",))
    _, found = gates(measured, monkeypatch, knows)
    assert (found["recommend"]["verdict"], found["recommend"]["on"]) == ("proven", True)
    assert found["recommend"]["blend"]["logit"] > 0


def test_features_are_held_against_the_fused_order_of_all_requests_of_the_fold(measured: Measurement) -> None:
    few = replace(measured, rerank_sample=5)
    assert few.feature_gates() == {}  # there is no ranker that reads features
    good, bad = (SecondStage({"recommend": by_one("towers_score", weight)}) for weight in (1.0, -1.0))
    for given, stage, on in ((few.state, good, True), (by_towers_alone(few.state), bad, False)):
        state = replace(given, second_stage=stage, scores=frozenset())
        said: list[str] = []
        found = features_decided(replace(few, state=state), "likely", say=said.append)
        gate = found["recommend"]["features"]
        assert isinstance(gate, dict)
        assert gate["on"] is on
        assert (gate["kind"], gate["required"]) == ("linear", "likely")
        assert gate["n"] == len(few.shop.events.folds["gate"])  # type: ignore[union-attr]
        assert ("recommend" in features_passed(found)) is on
        assert "verdict" not in found["recommend"]  # which would be that of step 2
        assert said[0].startswith("gate, recommend, features against fused: ")
