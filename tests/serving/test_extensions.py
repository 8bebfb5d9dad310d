"""The how-to's source, strategy and feature, each one file: through fit, gate, evaluation, answer and explanation."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine_changes import with_fusion
from plain_ranker import reading_every_feature
from ranking import strategies
from ranking.features import registry as features
from retrieval.sources import registry
from retrieval.sources.fusion import Fusion
from serving.engine import Engine
from serving.evaluation.figures import as_object
from serving.fitting.leak_check import leaking_features
from serving.jobs.run import Pipeline
from serving.settings import RunSettings, read_settings
from serving.shop import Shop

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE_FILES = ("last_brand", "wide_cascade", "rush")
Make = Callable[[Path, Path, RunSettings], Pipeline]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples imported, and forgotten afterwards."""
    registry.source_specs()  # ours are there before
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))
    features.feature_groups()
    monkeypatch.setattr(features, "_GROUPS", dict(features._GROUPS))
    for name in EXAMPLE_FILES:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_source_and_a_strategy_of_one_file_each_go_through_a_whole_run(
    sample_folder: Path, tmp_path: Path, quick_changes: list[str], make_pipeline: Make
) -> None:
    changes = ["ranking.strategy=wide_cascade", "ranking.shallow.layers=1", "ranking.shallow.examples=64"]
    settings = read_settings(changes=[*quick_changes, *changes, "ranking.depth=4"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = make_pipeline(sample_folder, tmp_path / "bundle", settings).run()
    fusions = result.release.settings["fusion"]
    assert isinstance(fusions, dict)
    assert "last_brand" in as_object(fusions["recommend"])  # weighed with the others
    gate = as_object(result.release.gates["recommend"])
    assert "on" in gate
    assert "recommend" in as_object(result.evaluation["tasks"])
    if engine := Engine.open(tmp_path / "bundle", device="cpu", auto_reload=False):
        state = engine.state
        assert [(step.model, step.depth) for step in state.steps] == [("shallow", 16), ("full", 4)]
        users = map(str, state.user_store.user_ids.to_pylist())
        takings = ((user, state.user_contexts.of_user(user).behaviour.taken.rows) for user in users)
        user, taken = next((user, taken) for user, taken in takings if len(taken))
        counted = with_fusion(state, recommend=Fusion({"towers": 1.0, "last_brand": 1.0}))  # whatever was fitted
        answer = Engine(counted).recommend(user_id=user, k=100, filter_seen=False)
    brands = state.version.values_at("brand", state.version.rows_of([hit.item_id for hit in answer.items])).to_pylist()
    (last,) = state.version.values_at("brand", taken[-1:]).to_pylist()
    named = [brand for hit, brand in zip(answer.items, brands, strict=True) if "last_brand" in hit.sources]
    assert named
    assert set(named) == {last}


def test_a_feature_of_one_file_is_computed_with_ours_and_knows_no_future(
    engine: Engine, sample_folder: Path, quick_settings: RunSettings, open_shop: Callable[[Path, RunSettings], Shop]
) -> None:
    state = reading_every_feature(replace(engine.state))
    shop = open_shop(sample_folder, quick_settings)
    ranker = state.second_stage.ranker("recommend")
    assert ranker is not None
    assert "rush" in ranker.names
    assert "rush" not in features.features_of(state.facts, search=True)
    answer = Engine(state).recommend(user_id=shop.data.user_ids[0], explain=True)
    assert all("rush" in hit.contributions for hit in answer.items)
    assert leaking_features(state, shop, ["rush"], most=30) == {}


@pytest.mark.parametrize("example", EXAMPLE_FILES)
def test_an_example_is_one_file_of_at_most_forty_lines_that_passes_the_linter(example: str) -> None:
    path = EXAMPLES / f"{example}.py"
    assert len(path.read_text("utf-8").splitlines()) <= 40
    done = subprocess.run([sys.executable, "-m", "ruff", "check", str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(registry.BadConfig, match="last_brand is already registered"):
        registry.register_source(
            registry.SourceSpec(name="last_brand", about="", make=lambda parts: None, counts_for=lambda case: False)  # type: ignore[arg-type,return-value]
        )


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(strategies.BadConfig, match="late_then_full, wide_cascade"):
        read_settings(changes=["ranking.strategy=deepest"])
