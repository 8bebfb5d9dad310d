"""Whole runs and parts of runs: what they leave on the disk, and what they leave alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing.bundle.bundle import Bundle
from ranking.training.pairs import join_pairs
from retrieval.errors import BadBundle, BadData
from retrieval.text.rendering import field_markers_fingerprint
from retrieval.topk import CSR
from serving.answering.release_settings import ReleaseSettings
from serving.answering.stages.rank import pair_logits, rerank, user_texts
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import QueriesAlone, retrieved
from serving.fitting.ranker_data import RankerData
from serving.jobs.run import Pipeline, RunResult
from serving.jobs.train_one import index_ids, recorded_settings, train_ranker, train_towers
from serving.settings import RunSettings, read_settings

Make = Callable[[Path, Path, RunSettings], Pipeline]
pytestmark = pytest.mark.usefixtures("quiet_trainers")


@pytest.fixture
def shuffled(sample_folder: Path, tmp_path: Path) -> Path:
    """The same shop, the rows of every file in another order."""
    folder = tmp_path / "shuffled"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for path in sample_folder.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.take(rng.permutation(table.num_rows)), folder / path.name)
    return folder


@pytest.fixture
def fewer_items(sample_folder: Path, tmp_path: Path) -> Path:
    """The catalogue alone, ten items fewer and one new."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    items = pq.read_table(sample_folder / "items.parquet")
    kept = items.slice(10)
    names = {"item_id": "brand-new", "title": "Small Red Mug"}
    new = pa.table({name: pa.array([names.get(name)], kept.schema.field(name).type) for name in kept.column_names})
    pq.write_table(pa.concat_tables([kept, new]), folder / "items.parquet")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_a_live_release_with_gates_figures_and_settings(run_result: RunResult, bundle_path: Path) -> None:
    release = Bundle.open(bundle_path).current()
    assert release.id == run_result.release.id
    assert set(release.gates) == {"recommend", "recommend_unseen", "search", "personalised_search", "complete_cart"}
    assert all({"verdict", "n", "mean", "low", "high", "mde", "on"} <= set(gate) for gate in release.gates.values())  # type: ignore[arg-type]
    assert release.settings["config"]["ranking"]["depth"] == 10  # type: ignore[index,call-overload]
    assert set(release.split["folds"]) >= {"tower_valid", "ranker_train", "ranker_valid", "gate", "test"}  # type: ignore[arg-type]
    tasks = {"recommend", "search", "personalised_search", "complete_cart", "judged"}
    assert set(release.figures["evaluation"]) == tasks  # type: ignore[arg-type]
    Bundle.open(bundle_path).verify().require_sound()
    for kind, name in release.parts().items():
        assert [part.name for part in (bundle_path / kind).iterdir()] == [name]


def test_a_run_reports_every_stage_beside_every_baseline(run_result: RunResult) -> None:
    found = json.loads((run_result.report.parent / "evaluation.json").read_text("utf-8"))
    assert set(found) == {"tasks", "gate", "release"}
    task = found["tasks"]["recommend"]["seen_removed"]
    stages, sampled = task["stages"], task["sample"]["stages"]
    assert {"popularity", "item_knn", "own_frequency", "retrieval"} <= set(stages)
    assert {*stages, "reranked", "final"} <= set(sampled)
    assert {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20, 50, 100)} <= set(sampled["final"])
    assert {"bm25", "retrieval", "reranked", "final"} <= set(found["tasks"]["search"]["stages"])
    assert {"query_alone", "bm25", "popularity", "item_knn", "retrieval", "reranked", "final"} <= set(
        found["tasks"]["personalised_search"]["stages"]
    )
    assert {"popularity", "item_knn", "retrieval", "reranked", "final"} <= set(
        found["tasks"]["complete_cart"]["stages"]
    )
    assert "rmse" in found["tasks"]["judged"]["stages"]["reranked"]
    assert run_result.release.id in run_result.report.read_text("utf-8")


def test_a_run_removes_what_it_worked_on(run_result: RunResult, bundle_path: Path) -> None:
    assert not (bundle_path / "work").exists()
    assert not any((bundle_path / ".staging").iterdir())
    assert not (bundle_path / "rejected.parquet").exists()
    assert all(seconds >= 0 for seconds in run_result.seconds.values())


def test_the_order_of_rows_changes_no_figure(
    run_result: RunResult, own_bundle: Path, shuffled: Path, make_pipeline: Make
) -> None:
    bundle = Bundle.open(own_bundle)
    before = contents(own_bundle / "releases")
    settings = read_settings(base=recorded_settings(bundle))
    pipeline = make_pipeline(shuffled, own_bundle, settings)
    shop = pipeline.open_shop(like=index_ids(bundle, bundle.current()))
    evaluation, _ = pipeline.evaluate_live(shop, bundle)
    assert evaluation["release"] == run_result.release.id
    for one, other in zip(figures(evaluation), figures(run_result.evaluation), strict=True):
        assert one == pytest.approx(other, abs=2e-3)
    assert contents(own_bundle / "releases") == before


def figures(evaluation: object) -> list[float]:
    """Recall and MRR of retrieval in each task."""
    tasks = json.loads(json.dumps(evaluation))["tasks"]
    stages = [task["stages"] for task in (*tasks["recommend"].values(), tasks["search"], tasks["judged"])]
    return [stage["retrieval"][name] for stage in stages for name in ("recall@10", "recall@50", "mrr@10")]


def test_items_that_are_not_those_of_the_index_are_refused(
    own_bundle: Path, fewer_items: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    for path in sample_folder.glob("[!i]*.parquet"):
        (fewer_items / path.name).write_bytes(path.read_bytes())
    lenient = quick_settings.model_copy(
        update={"data": quick_settings.data.model_copy(update={"max_unknown": 1.0, "max_bad": 1.0})}
    )
    pipeline = make_pipeline(fewer_items, own_bundle, lenient)
    with pytest.raises(BadData, match="shortlist index build"):
        train_ranker(pipeline)
    assert not (own_bundle / "work").exists()


def test_the_retriever_alone_is_published_without_a_ranker(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    before = Bundle.open(own_bundle).current()
    release = train_towers(make_pipeline(sample_folder, own_bundle, quick_settings))
    assert release.ranker is None
    assert release.gates == {}
    assert release.parent == before.id
    user = Engine.open(own_bundle, device="cpu").state.user_store.user_ids[0].as_py()
    assert not Engine.open(own_bundle, device="cpu").recommend(user_id=user).reranked


def test_the_ranker_alone_stands_on_the_live_towers_and_index(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    before = Bundle.open(own_bundle).current()
    changes = ["ranking.titles=2", "ranking.field_markers=true", "ranking.training.seed=9"]
    changed = read_settings(base=quick_settings.model_dump(), changes=changes)
    result = train_ranker(make_pipeline(sample_folder, own_bundle, changed))
    release = result.release
    assert (release.towers, release.index) == (before.towers, before.index)
    assert release.ranker != before.ranker
    assert (release.settings["titles"], release.settings["field_markers"]) == (2, field_markers_fingerprint())
    assert release.settings["fusion"] == before.settings["fusion"] != {}
    assert release.id != before.id
    assert result.report.exists()
    engine = Engine.open(own_bundle, device="cpu")
    user = engine.state.user_store.user_ids[0].as_py()
    (text,) = user_texts(engine.state, engine.state.user_contexts.of_user(user), ["red mug"])
    assert re.fullmatch("query: red mug(; (view|click|favourite|cart|purchase|return): [^;]+){1,2}", text)


def test_whoever_asks_for_a_ranker_gets_one_though_the_run_before_had_none(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    settings = read_settings(base=quick_settings.model_dump(), changes=["ranking.enabled=false"])
    assert train_ranker(make_pipeline(sample_folder, own_bundle, settings)).release.ranker is not None


def test_where_no_ranker_can_learn_the_live_release_stays(
    own_bundle: Path,
    sample_folder: Path,
    make_pipeline: Make,
    quick_settings: RunSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, nothing = Bundle.open(own_bundle).current(), join_pairs([])
    monkeypatch.setattr(
        "serving.fitting.train_ranker.ranker_data", lambda *_, **__: RankerData(nothing, nothing, usable=0)
    )
    with pytest.raises(BadData, match=f"no ranker was trained: the towers of {before.id} .* stays live"):
        train_ranker(make_pipeline(sample_folder, own_bundle, quick_settings))
    assert Bundle.open(own_bundle).current() == before


ORDERS = {"recommend", "recommend_unseen", "complete_cart", "search"}


def test_a_cascade_is_trained_recorded_and_served(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    changes = [
        "ranking.strategy=cascade",
        "ranking.second_stage_depth=4",
        "ranking.shallow.layers=1",
        "ranking.shallow.examples=64",
    ]
    settings = read_settings(base=quick_settings.model_dump(), changes=[*changes, "ranking.shallow.valid_pairs=64"])
    release = train_ranker(make_pipeline(sample_folder, own_bundle, settings)).release
    shallow, full = ReleaseSettings.of(release).rerank
    assert (shallow.model, shallow.depth, set(shallow.blends)) == ("shallow", 10, ORDERS)
    assert (full.model, full.depth, set(full.blends)) == ("full", 4, ORDERS | {"grade"})
    state = Engine.open(own_bundle, device="cpu").state
    hits = retrieved(state, QueriesAlone(["red mug"]), TASKS["search"]).candidates.hits
    quick = rerank(replace(state, steps=state.steps[:1]), ["red mug"], hits, "search").hits.rows[0]
    both = rerank(state, ["red mug"], hits, "search").hits.rows[0]
    assert set(quick[:4]) == set(both[:4])
    assert both[4:].tolist() == quick[4:].tolist()
    assert set(quick[:10]) == set(hits.rows[0, :10])
    assert all(step.stored is not None for step in state.steps)


def test_a_ranker_of_int8_is_served_from_a_graph_of_its_own(
    own_bundle: Path, sample_folder: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    settings = read_settings(base=quick_settings.model_dump(), changes=["ranking.precision=int8"])
    release = train_ranker(make_pipeline(sample_folder, own_bundle, settings)).release
    graphs = own_bundle / "runtime" / str(release.ranker)
    assert (graphs / "cross_encoder_int8.xml").exists()
    assert (graphs / "cross_encoder.xml").exists()  # for a machine, or a caller, that takes floats: it needs no torch
    exact, int8 = (Engine.open(own_bundle, device="cpu", precision=kind) for kind in ("fp32", "auto"))
    assert [one.state.steps[0].scorer.placement.precision for one in (exact, int8)] == ["fp32", "int8"]
    pairs = CSR.from_lists([np.arange(3)])
    assert not np.array_equal(*(pair_logits(one.state, ["red mug"], pairs) for one in (exact, int8)))


def test_a_folder_of_other_things_is_left_alone(
    sample_folder: Path, tmp_path: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-you.txt").write_text("dear you")
    before = contents(tmp_path)
    with pytest.raises(BadBundle, match="no bundle"):
        make_pipeline(sample_folder, tmp_path / "letters", quick_settings).run()
    assert contents(tmp_path) == before


def test_a_data_set_that_is_refused_leaves_nothing_behind(
    sample_folder: Path, tmp_path: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    with pytest.raises(BadData):
        make_pipeline(tmp_path / "nowhere", tmp_path / "bundle", quick_settings).run()
    assert not (tmp_path / "bundle").exists()


def write_few_shoppers(folder: Path) -> None:
    """Three shoppers, five odd ids, one time, an event of the shop's own, short titles, no optional column."""
    ids = ["a, b", "../x", "☃", "1", "x" * 200]
    rows = [(user, ids[(user + step) % 5]) for user in range(3) for step in range(4)]
    events = {
        "user_id": [f"user {user}" for user, _ in rows],
        "item_id": [item for _, item in rows],
        "event": ["rent"] * len(rows),
        "timestamp": pa.array([1_600_000_000] * len(rows), pa.timestamp("s")),
    }
    pq.write_table(pa.table({"item_id": ids, "title": ["x", "y", "x", "Ω", "-"]}), folder / "items.parquet")
    pq.write_table(pa.table(events), folder / "events.parquet")


def write_few_queries(folder: Path) -> None:
    """Three judged queries and no event."""
    items = {"item_id": list(range(6)), "title": ["red mug", "blue mug", "steel saw", "oil", "lamp", "chair"]}
    judged = {"query_id": [q for q in (1, 2, 3) for _ in range(6)], "item_id": [*range(6)] * 3, "grade": [1, 2, 3] * 6}
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table(judged), folder / "judgements.parquet")
    pq.write_table(pa.table({"query_id": [1, 2, 3], "text": ["mug", "saw", "red"]}), folder / "queries.parquet")


@pytest.mark.parametrize("write", [write_few_shoppers, write_few_queries])
def test_small_and_odd_data_sets_just_work(
    tmp_path: Path, make_pipeline: Make, quick_settings: RunSettings, write: Callable[[Path], None]
) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    told: list[str] = []
    pipeline = replace(make_pipeline(tmp_path / "data", tmp_path / "bundle", quick_settings), say=told.append)
    result = pipeline.run()
    assert any(line.startswith("ranker: left out, for a gate of") for line in told)
    assert result.release.ranker is None
    engine = Engine.open(tmp_path / "bundle", device="cpu")
    everything = set(engine.state.version.ids.to_pylist())
    assert {hit.item_id for hit in engine.search("red mug", k=9).items} == everything
    assert {hit.item_id for hit in engine.recommend(user_id="user 1", k=9, filter_seen=False).items} == everything
    assert result.evaluation["release"] == engine.release.id
