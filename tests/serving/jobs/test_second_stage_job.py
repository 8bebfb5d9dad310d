"""The second stage of a release: fitted, gated and fitted again by a run; kept or dropped by the jobs that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from second_stages import PASSED, by_one, published

from indexing.bundle.bundle import Bundle
from retrieval.data.dataset import DataSet
from retrieval.errors import StaleArtefact
from serving.answering.release_settings import features_passed
from serving.engine import Engine
from serving.fitting.fit_second_stage import REFITTED
from serving.jobs.build_index import IndexBuild
from serving.jobs.run import Pipeline
from serving.jobs.train_one import index_ids, train_ranker, train_towers
from serving.settings import RunSettings, read_settings

Make = Callable[[Path, Path, RunSettings], Pipeline]
pytestmark = pytest.mark.usefixtures("quiet_trainers")


@pytest.fixture
def by_features(own_bundle: Path) -> Path:
    """A bundle whose live release orders recommendations and searches by features."""
    published(own_bundle, {"recommend": by_one("takings"), "search": by_one("towers_score")})
    return own_bundle


def ordered_by(bundle: Path, data: DataSet) -> tuple[str, ...]:
    return Engine.open(bundle, device="cpu").recommend(user_id=data.user_ids[0]).reranked


def test_what_a_run_gates_it_fits_again_on_every_fold_before_test(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    settings = read_settings(base=quick_settings.model_dump(), changes=["ranking.order=linear", "ranking.gate=no"])
    store = Bundle.open(own_bundle)
    live, pipeline = store.current(), make_pipeline(sample_folder, own_bundle, settings)
    with pipeline.writing(like=index_ids(store, live)) as (shop, bundle):
        draft, chosen = pipeline.fit_second_stage(shop, bundle, live)
        again = pipeline.refit(shop, bundle, draft, chosen)
    assert chosen
    assert {one.kind for one in chosen.values()} == {"linear"}
    assert features_passed(draft.gates)
    assert "refitted_on" not in draft.figures
    assert again.figures["refitted_on"] == {order: list(REFITTED[order]) for order in chosen}
    assert again.gates == draft.gates  # the procedure is what was gated
    assert again.second_stage not in (None, draft.second_stage)
    assert all("test" not in folds for folds in REFITTED.values())


def test_an_index_build_keeps_the_order_by_features(
    by_features: Path,
    sample_folder: Path,
    data: DataSet,
    make_pipeline: Make,
    quick_settings: RunSettings,
    build_index: Callable[..., IndexBuild],
) -> None:
    before = Bundle.open(by_features).current()
    build_index(make_pipeline(sample_folder, by_features, quick_settings))
    release = Bundle.open(by_features).current()
    assert release.id != before.id
    assert release.second_stage == before.second_stage is not None
    assert {task: release.gates[task] for task in ("recommend", "search")} == dict.fromkeys(
        ("recommend", "search"), PASSED
    )
    assert ordered_by(by_features, data) == ("features",)


def test_new_towers_come_without_rankers_that_learned_from_the_old(
    by_features: Path, sample_folder: Path, data: DataSet, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    store = Bundle.open(by_features)
    before = store.current()
    other = read_settings(base=quick_settings.model_dump(), changes=["retrieval.seed=5"])
    release = train_towers(make_pipeline(sample_folder, by_features, other))
    assert release.towers != before.towers
    assert (release.second_stage, release.gates) == (None, {})
    assert ordered_by(by_features, data) == ()
    mixed = replace(release, id="mixed", created="2028-01-01T00:00:00+00:00", second_stage=before.second_stage)
    with pytest.raises(StaleArtefact, match=f"was made by towers/{before.towers}"), store.lock():
        store.publish(mixed)


def test_a_new_cross_encoder_leaves_the_order_by_features_and_its_gates(
    by_features: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    before = Bundle.open(by_features).current()
    release = train_ranker(make_pipeline(sample_folder, by_features, quick_settings)).release
    assert release.ranker is not None
    assert release.second_stage == before.second_stage
    for task in ("recommend", "search"):
        gate = release.gates[task]
        assert isinstance(gate, dict)
        assert gate["features"] == PASSED["features"]
        assert {"verdict", "on", "blend"} <= set(gate)
    engine = Engine.open(by_features, device="cpu")
    assert all(step.controls for step in engine.state.steps)
