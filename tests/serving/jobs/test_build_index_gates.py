"""`index build` as a nightly job: what it refuses to publish, and what is published all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import index_jobs
from index_jobs import Build, Make, catalogue, lines_of, run, with_column
from indexing.bundle import verify
from indexing.bundle.bundle import Bundle
from indexing.version import build as rebuild
from retrieval.errors import BadConfig, GateRefused
from retrieval.towers.serving import ItemTower
from serving.engine import Engine
from serving.jobs.update_index import Update
from serving.settings import RunSettings

items, data, job = index_jobs.items, index_jobs.data, index_jobs.job


def test_half_a_feed_is_refused_and_can_be_looked_at_and_activated(
    data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    catalogue(data, items.slice(0, items.num_rows // 2))
    before, log = Bundle.open(own_bundle).current_id(), tmp_path / "log.jsonl"
    code, out, error = run(own_bundle, "--data", data, "--json", "--log", log)
    assert code == 3
    last = error.splitlines()[-1]
    assert "60 items after 120 (-50.0 %), of which 60 (50.0 %) are gone, and 30 % is allowed" in last
    store, told = Bundle.open(own_bundle), json.loads(out)
    assert store.current_id() == before
    assert (told["live"], told["items"], told["reused"], told["embedded"]) == (False, 60, 60, 0)
    assert not told["gates"]["items"]["passed"]
    assert told["release"] in last
    assert (lines_of(log)[-1]["event"], lines_of(log)[-1]["outcome"]) == ("outcome", "refused")
    assert store.release(told["release"]).gates == told["gates"]
    store.activate(told["release"])
    assert len(Engine.open(own_bundle, device="cpu").recommend(k=1000, filter_seen=False).items) == 60


def test_a_feed_of_other_items_is_refused_though_there_are_as_many(job: Build, data: Path, items: pa.Table) -> None:
    catalogue(data, with_column(items, "item_id", [f"other-{row}" for row in range(items.num_rows)]))
    with pytest.raises(GateRefused, match=r"gate items: 120 items after 120 \(\+0\.0 %\), of which 120 \(100\.0 %\)"):
        job().require_live()


def test_deleted_items_count_neither_as_live_nor_as_gone(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    gone = items["item_id"].to_pylist()[:60]
    (tmp_path / "gone.txt").write_text("\n".join(gone))
    update = Update(upsert=None, delete=tmp_path / "gone.txt", max_bad=0.1)
    update.apply(Bundle.open(own_bundle), device="cpu", say=lambda _: None)
    catalogue(data, items.slice(60))
    made = job()
    assert made.release.gates["items"] == {
        "passed": True,
        "why": "60 items after 60 (+0.0 %), of which 0 (0.0 %) are gone, and 30 % is allowed",
        "items": 60,
        "live": 60,
        "gone": 0,
        "max_change": 0.3,
    }


def test_force_publishes_what_was_refused_and_records_who_and_why(
    job: Build, data: Path, own_bundle: Path, items: pa.Table
) -> None:
    catalogue(data, items.slice(0, items.num_rows // 2))
    with pytest.raises(BadConfig, match="add --why TEXT"):
        job(force=True)
    made = job(force=True, why="the other half was sold")
    made.require_live()
    release = Bundle.open(own_bundle).current()
    assert (release.id, release.why) == (made.release.id, "the other half was sold")
    assert release.who
    assert release.gates["items"]["overruled"] is True  # type: ignore[index,call-overload]
    assert "overruled" not in release.gates["checksums"]  # type: ignore[operator]


def test_a_wider_limit_lets_half_a_feed_pass(data: Path, own_bundle: Path, items: pa.Table) -> None:
    catalogue(data, items.slice(0, items.num_rows // 2))
    code, out, error = run(own_bundle, "--data", data, "--max-change", "0.6")
    assert (code, "release" in out, "60 with vectors reused, 0 embedded" in out) == (0, True, True), error


def test_vectors_that_belong_to_other_items_are_refused_by_the_canaries(
    job: Build, own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = ItemTower.vectors
    monkeypatch.setattr(ItemTower, "vectors", lambda *given: np.roll(vectors(*given), 7, axis=0))
    before = Bundle.open(own_bundle).current_id()
    made = job()
    assert "canaries in the index alone overlap@10" in {gate.name for gate in made.gates if not gate.passed}
    with pytest.raises(
        GateRefused, match=r"gate .*the index alone overlap@10: the first 10 items of \d+ .* overlap by 0\."
    ):
        made.require_live()
    assert Bundle.open(own_bundle).current_id() == before


def test_a_damaged_model_is_refused_by_name_and_cannot_be_forced(
    job: Build, own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "READ_AT_OPEN", 0)  # as if it were large: opening compares its size alone
    store = Bundle.open(own_bundle)
    before = store.current()
    path = store.path_of("ranker", str(before.ranker)) / "model.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 64
    path.unlink()
    path.write_bytes(whole)
    with pytest.raises(GateRefused, match=r"gate checksums: .*model.safetensors is changed"):
        job(force=True, why="in a hurry").require_live()
    assert store.current_id() == before.id


def test_a_recall_that_is_missed_is_refused(job: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rebuild.write_index
    monkeypatch.setattr(rebuild, "write_index", lambda *given, **more: found(*given, **more) | {"recall": 0.9})
    with pytest.raises(GateRefused, match=r"gate recall: recall@100 of the index is 0\.900, 0\.950 is wanted"):
        job().require_live()


def test_a_kind_that_misses_the_recall_is_refused_by_its_gate_and_can_be_forced(
    data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunSettings, build_index: Build
) -> None:
    index = quick_settings.index.model_copy(update={"factory": "PCA1,Flat", "recall": 0.999})
    poor = make_pipeline(data, own_bundle, quick_settings.model_copy(update={"index": index}))
    with pytest.raises(GateRefused, match=r"gate recall: recall@100 of the index is 0\.\d+, 0\.999 is wanted"):
        build_index(poor).require_live()
    build_index(poor, force=True, why="to see it").require_live()


def test_recall_is_measured_on_what_the_canaries_ask(job: Build, own_bundle: Path) -> None:
    job()
    store = Bundle.open(own_bundle)
    about = store.manifest("index", store.current().index).about
    assert str(about["recall_queries"]).endswith("user vectors")
