"""`index build` as a nightly job: what it reuses, what it goes on from, what it refuses to publish."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from indexing import rebuild, verify
from indexing.store import Bundle
from indexing.version import IndexVersion
from retrieval.encoder import TextEncoder
from retrieval.errors import BadConfig, GateRefused
from retrieval.text import item_texts
from retrieval.topk import Vectors
from retrieval.towers import ItemTower, Towers
from serving.cli import app
from serving.engine import Engine
from serving.index_job import IndexBuild
from serving.joblog import JobLog
from serving.jobs import index_ids
from serving.pipeline import Pipeline
from serving.settings import RunConfig
from serving.updates import Update

Make = Callable[[Path, Path, RunConfig], Pipeline]
Build = Callable[..., IndexBuild]


class Read:
    """Takes note of every text that an encoder reads as a document; breaks off before the `last`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> None:
        self.texts: list[str] = []
        encode = TextEncoder.encode

        def noted(encoder: TextEncoder, texts: Sequence[str], side: str = "document", **options: object) -> Vectors:
            if side == "document":
                if last is not None and len(self.texts) + len(texts) >= last:
                    raise KeyboardInterrupt
                self.texts += texts
            return encode(encoder, texts, side, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(TextEncoder, "encode", noted)


@pytest.fixture
def items(sample_folder: Path) -> pa.Table:
    return pq.read_table(sample_folder / "items.parquet")


@pytest.fixture
def data(sample_folder: Path, tmp_path: Path) -> Path:
    """The catalogue alone, to be changed."""
    return catalogue(tmp_path / "data", pq.read_table(sample_folder / "items.parquet"))


@pytest.fixture
def job(data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunConfig, build_index: Build) -> Build:
    """An index build of that catalogue into a bundle of one's own."""
    return lambda **options: build_index(make_pipeline(data, own_bundle, quick_settings), **options)


def catalogue(folder: Path, items: pa.Table) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(items, folder / "items.parquet")
    return folder


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


def retitled(items: pa.Table, *titles: str) -> pa.Table:
    return with_column(items, "title", [*titles, *items["title"].to_pylist()[len(titles) :]])


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["index", "build", *map(str, arguments), "--device", "cpu"])
    return done.exit_code, done.stdout, done.stderr


def lines_of(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def test_a_build_follows_the_catalogue_and_keeps_the_models_and_the_shoppers(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, engine: Engine
) -> None:
    new = with_column(items.slice(0, 1), "item_id", ["brand-new"])
    catalogue(data, pa.concat_tables([items.slice(10), retitled(new, "Small Red Mug")]))
    made, before = job(), engine.release
    made.require_live()
    release = Bundle.open(own_bundle).current()
    assert release.id == made.release.id
    assert (release.towers, release.ranker, release.shoppers) == (before.towers, before.ranker, before.shoppers)
    assert release.index != before.index
    assert {name: gate for name, gate in release.gates.items() if name in before.gates} == before.gates
    assert "evaluation" not in release.figures
    rebuilt = Engine.open(own_bundle, device="cpu")
    everything = {hit.item_id for hit in rebuilt.recommend(k=1000, seen="keep").items}
    assert everything == set(index_ids(Bundle.open(own_bundle), release))
    assert "brand-new" in everything
    assert len(everything) == items.num_rows - 9
    (step,) = rebuilt.stages.steps
    assert step.stored is not None
    assert len(step.stored) == rebuilt.stages.version.size
    known = engine.shoppers.user_ids[0].as_py()
    assert rebuilt.recommend(user_id=known).fell_back_to == ()
    assert made.built.texts == (items.num_rows - 10, 0, 1)


def test_rows_that_were_set_aside_lie_beside_the_output(
    job: Build, data: Path, own_bundle: Path, items: pa.Table
) -> None:
    nameless = with_column(items.slice(0, 1), "item_id", [None])
    catalogue(data, pa.concat_tables([items, nameless]))
    job()
    assert pq.read_table(own_bundle / "rejected.parquet")["row"].to_pylist() == [items.num_rows]
    catalogue(data, items)
    job()
    assert not (own_bundle / "rejected.parquet").exists()


def test_a_build_of_what_is_there_embeds_nothing_and_is_published(
    job: Build, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    job()
    before = Bundle.open(own_bundle).current()
    read = Read(monkeypatch)
    made = job()
    assert read.texts == []
    assert made.live
    assert made.built.texts == (items.num_rows, 0, 0)
    after = Bundle.open(own_bundle).current()
    assert (after.index, after.words, after.canaries) == (before.index, before.words, before.canaries)
    assert after.parent == before.id


def test_new_prices_cost_no_transformer_pass_and_new_titles_one_each(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = [price * 1.0001 for price in items["price"].to_pylist()]  # within their bands, which the text names
    changed = with_column(retitled(items, "a new title", "another one"), "price", prices)
    catalogue(data, changed)
    read = Read(monkeypatch)
    assert job().built.texts == (items.num_rows - 2, 0, 2)
    assert read.texts == item_texts(changed.slice(0, 2))
    store = Bundle.open(own_bundle)
    version = IndexVersion.open(store.path_of("index", store.current().index))
    towers = Towers.open(store.path_of("towers", store.current().towers), device="cpu")
    expected = towers.item.vectors(towers.encode_items(item_texts(changed)), changed)
    np.testing.assert_allclose(version.readings, expected, atol=1e-5)


def test_what_an_update_embedded_is_not_embedded_again(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = retitled(items, "steel mug one", "steel mug two")
    pq.write_table(changed.slice(0, 2), tmp_path / "upserts.parquet")
    update = Update(upsert=tmp_path / "upserts.parquet", delete=None, max_bad=0.1)
    update.apply(Bundle.open(own_bundle), device="cpu", say=lambda _: None)
    catalogue(data, changed)
    read = Read(monkeypatch)
    assert job().built.texts == (items.num_rows, 0, 0)
    assert read.texts == []


def test_an_interrupted_build_goes_on_from_its_last_part(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "EMBEDDED_AT_ONCE", 16)
    catalogue(data, retitled(items, *(f"{title} again" for title in items["title"].to_pylist()[:50])))
    before = Bundle.open(own_bundle).current_id()
    with monkeypatch.context() as killed:
        read = Read(killed, last=40)
        with pytest.raises(KeyboardInterrupt):
            job()
    assert len(read.texts) == 32
    assert Bundle.open(own_bundle).current_id() == before
    rest = Read(monkeypatch)
    made = job()
    assert made.built.texts == (items.num_rows - 50, 32, 18)
    assert len(rest.texts) == 18
    assert set(rest.texts).isdisjoint(read.texts)
    assert "32 embedded by the interrupted job, 18 embedded" in made.line()
    assert not (own_bundle / "work").exists()


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
    assert len(Engine.open(own_bundle, device="cpu").recommend(k=1000, seen="keep").items) == 60


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
    assert (code, "release" in out, "60 with vectors as they were, 0 embedded" in out) == (0, True, True), error


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
    data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunConfig, build_index: Build
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


def test_the_log_tells_every_stage_what_was_done_and_how_it_ended(
    data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    catalogue(data, retitled(items, "a new title"))
    log = tmp_path / "log.jsonl"
    code, _, error = run(own_bundle, "--data", data, "--log", log, "--recall", "0.9", "--memory", "1GiB")
    assert code == 0, error
    told = lines_of(log)
    begun = [line["stage"] for line in told if line["event"] == "begin"]
    assert begun == [line["stage"] for line in told if line["event"] == "end"]
    assert begun[:3] == ["read", "live release", "fingerprint"]
    assert begun[-1] == "publish"
    (embedded,) = (line for line in told if line["stage"] == "embed" and line["event"] == "progress")
    assert (embedded["done"], embedded["total"]) == (1, 1)
    assert {line["name"] for line in told if line["event"] == "gate"} >= {"checksums", "recall", "items"}
    assert told[-1]["outcome"] == "published"
    assert (told[-1]["reused"], told[-1]["resumed"], told[-1]["embedded"]) == (items.num_rows - 1, 0, 1)
    assert set(told[-1]["stages"]) == set(begun)  # type: ignore[call-overload]
    release = Bundle.open(own_bundle).current()
    assert release.id == told[-1]["release"]
    assert release.settings["config"]["index"] == {"factory": "auto", "recall": 0.9, "memory": "1GiB"}  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--memory", "much"], "memory 'much' is no amount of memory"),
        (["--recall", "1.5"], "setting index.recall"),
        (["--max-change", "-1"], "--max-change is -1.0"),
        (["--force"], "add --why TEXT"),
        (["--data", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_a_wrong_option_is_one_line_and_changes_nothing(
    data: Path, own_bundle: Path, tmp_path: Path, options: list[str], error: str
) -> None:
    before = Bundle.open(own_bundle).releases()
    code, _, told = run(own_bundle, "--data", data, *options)
    assert code == 2
    assert error in told.splitlines()[-1]
    assert Bundle.open(own_bundle).releases() == before


@pytest.mark.parametrize(
    "step", ["serving.assemble.write_words", "serving.assemble.write_canaries", "indexing.store.replace_file"]
)
def test_a_full_disk_is_one_line_and_the_job_goes_well_when_there_is_room(
    data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    catalogue(data, retitled(items, "a new title"))
    store = Bundle.open(own_bundle)
    store.publish(replace(store.current(), id="older", canaries=None))  # one that has none: they are chosen now
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(step, full)
        code, _, error = run(own_bundle, "--data", data)
    assert code == 2
    assert "No space left on device; free some space, then run it again" in error.splitlines()[-1]
    assert store.current_id() == "older"
    store.verify().require_sound()
    code, out, error = run(own_bundle, "--data", data)
    assert code == 0, error
    assert f"{items.num_rows - 1} with vectors as they were" in out


def test_a_log_that_the_last_line_finds_no_room_in_does_not_take_back_what_is_live(
    data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunConfig, build_index: Build, tmp_path: Path
) -> None:
    class FullAtTheEnd(JobLog):
        def finish(self, outcome: str, **figures: object) -> None:
            log.unlink()
            log.symlink_to("/dev/full")
            super().finish(outcome, **figures)

    log, told = tmp_path / "log.jsonl", list[str]()
    pipeline = replace(make_pipeline(data, own_bundle, quick_settings), say=told.append)
    made = build_index(pipeline, log=FullAtTheEnd(log))
    assert made.live
    assert Bundle.open(own_bundle).current() == made.release
    assert told[-1].startswith(f"note: cannot write {log}: No space left on device")


def test_a_job_that_fails_says_so_in_its_log(own_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    code, _, error = run(own_bundle, "--data", tmp_path / "none", "--log", log)
    last = lines_of(log)[-1]
    assert (code, last["event"], last["stage"], last["exit_code"]) == (2, "failed", "read", 2)
    assert f"error: {last['error']}" == error.splitlines()[-1]
