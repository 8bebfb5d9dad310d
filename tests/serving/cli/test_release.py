"""`shortlist release list`, `activate`, `rollback`, `prune`, `verify`; `shortlist index status` and `export`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap
from indexing.bundle.releases import Release
from indexing.bundle.verify import segment_path
from serving.cli.app import app
from serving.engine import Engine
from serving.jobs.update_index import Update

COMMANDS = ("list", "activate", "rollback", "prune", "verify")
OF_INDEX = ("status", "export")


def group_of(command: object) -> str:
    return "index" if command in OF_INDEX else "release"


def shortlist(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, list(map(str, (group_of(arguments[0]), *arguments))), prog_name="shortlist")


def told(*arguments: str | Path | int) -> dict[str, object]:
    result = shortlist(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.fixture
def second(own_bundle: Path) -> Release:
    """The same parts under another name, live after the first."""
    store = Bundle.open(own_bundle)
    live = store.current()
    return store.publish(replace(live, id="second", created="2027-01-01T00:00:00+00:00", why="again", figures={}))


@pytest.fixture
def delete(own_bundle: Path, tmp_path: Path) -> Callable[[str], None]:
    """Deletes an item by an update."""

    def delete_one(item_id: str) -> None:
        path = tmp_path / "gone.txt"
        path.write_text(item_id)
        Update(upsert=None, delete=path, max_bad=0.1).apply(Bundle.open(own_bundle), device="cpu", say=lambda _: None)

    return delete_one


@pytest.mark.parametrize("command", [*COMMANDS, *OF_INDEX])
def test_every_command_explains_itself_and_refuses_what_is_no_bundle(command: str, tmp_path: Path) -> None:
    assert f"shortlist {group_of(command)} {command}" in shortlist(command, "--help").stdout
    more = {"activate": ["r"], "prune": ["--keep", "1"], "export": ["--out", "v.parquet"]}.get(command, [])
    refused = shortlist(command, tmp_path / "none", *more)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: there is no bundle at")
    assert refused.stderr.count("\n") == 1


def test_status_tells_what_is_live_what_was_updated_and_who_writes(
    own_bundle: Path, second: Release, delete: Callable[[str], None]
) -> None:
    delete("item-00003")
    store = Bundle.open(own_bundle)
    with store.stage("index") as folder:
        (folder / "half").write_bytes(b"x" * 1234)
        found = told("status", own_bundle)
        text = shortlist("status", own_bundle).stdout
        assert found["staging"] == {folder.name: 1234}
    live = found["live"]
    assert isinstance(live, dict)
    assert (live["release"], live["items"], live["recall"]) == ("second", 120, 1.0)
    assert live["parts"] == second.parts()
    assert (found["since"], found["rollback_to"]) == (second.created, second.parent)
    assert (found["updates"], found["upserted"], found["deleted"]) == (1, 0, 1)
    assert (found["releases"], found["writer"]) == (2, os.getpid())
    sizes = found["bytes"]
    assert isinstance(sizes, dict)
    assert sizes["towers"] == sum(path.stat().st_size for path in (own_bundle / "towers").rglob("*") if path.is_file())
    updates = "1 since the build: 0 items upserted, 1 deleted"
    for words in ("second", "120 items when built", f"process {os.getpid()}", "1.2 kB", updates):
        assert words in text
    assert told("status", own_bundle)["writer"] is None


def test_releases_are_listed_from_old_to_new_with_their_figures(own_bundle: Path, second: Release) -> None:
    found = told("list", own_bundle)["releases"]
    assert isinstance(found, list)
    assert [one["release"] for one in found] == [second.parent, "second"]
    assert [one["live"] for one in found] == [False, True]
    assert set(found[0]["figures"]) == {"recommend", "search"}
    assert found[1]["figures"] == {}
    assert [one["refused_by"] for one in found] == [[], []]
    lines = [line.split() for line in shortlist("list", own_bundle).stdout.splitlines()]
    assert ["*", "second", "2027-01-01", "00:00", "120"] in [line[:5] for line in lines]
    gates: JsonMap = {"recall": {"passed": False}, "items": {"passed": False, "overruled": True}, "a": {"passed": True}}
    Bundle.open(own_bundle).record(replace(second, id="third", created="2028", manifests={}, gates=gates))
    assert told("list", own_bundle)["releases"][2]["refused_by"] == ["recall"]  # type: ignore[index]
    assert "(refused" in shortlist("list", own_bundle).stdout
    index = Bundle.open(own_bundle).path_of("index", second.index)
    (index / "manifest.json").unlink()
    assert "?" in shortlist("list", own_bundle).stdout


def test_activate_and_rollback_move_what_is_live_and_say_so(own_bundle: Path, second: Release) -> None:
    first = second.parent
    assert first is not None
    assert told("rollback", own_bundle) == {"release": first, "live": True, "ranker": second.ranker}
    assert Engine.open(own_bundle, device="cpu").release.id == first
    refused = shortlist("rollback", own_bundle)
    assert refused.exit_code == 2
    assert f"no release that was live before {first}" in refused.stderr
    assert f"release second of {own_bundle} is live" in shortlist("activate", own_bundle, "second").stdout
    moves = Bundle.open(own_bundle).moves()
    assert [(move.release, move.how) for move in moves[-2:]] == [(first, "rollback"), ("second", "activate")]
    assert all(move.who and move.at.startswith("20") for move in moves[-2:])
    unknown = shortlist("activate", own_bundle, "third")
    assert unknown.exit_code == 2
    assert f"has no release third; it has: {first}, second" in unknown.stderr


def test_a_damaged_release_is_not_activated_and_each_bad_file_is_named(
    own_bundle: Path, second: Release, delete: Callable[[str], None]
) -> None:
    delete("item-00003")
    store = Bundle.open(own_bundle)
    index = store.path_of("index", second.index)
    bad = [
        index / "vectors.npy",
        segment_path(index, 1) / "deleted.arrow",
        store.path_of("words", str(second.words)) / "rows.npy",
    ]
    for path in bad:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    assert second.shoppers is not None
    gone = store.path_of("shoppers", second.shoppers) / "counts.npy"
    gone.unlink()
    result = shortlist("verify", own_bundle)
    assert result.exit_code == 2
    assert sorted(result.stdout.splitlines()) == sorted([*(f"{path} is changed" for path in bad), f"{gone} is missing"])
    assert result.stderr.startswith("error: release second is damaged in 4 files")
    as_json = json.loads(shortlist("verify", own_bundle, "second", "--json").stdout)
    assert as_json["sound"] is False
    assert len(as_json["faults"]) == 4
    refused = shortlist("rollback", own_bundle)
    assert refused.exit_code == 2
    assert Bundle.open(own_bundle).current_id() == "second"


def test_a_sound_release_is_told_with_what_was_read(own_bundle: Path) -> None:
    found = told("verify", own_bundle)
    assert (found["sound"], found["faults"]) == (True, [])
    assert "all intact" in shortlist("verify", own_bundle).stdout


def test_prune_keeps_what_is_live_and_an_engine_goes_on(own_bundle: Path, second: Release) -> None:
    assert second.parent is not None
    engine = Engine.open(own_bundle, device="cpu", auto_reload=False)
    before = engine.search("red mug").items
    found = told("prune", own_bundle, "--keep", 1)
    assert found["releases"] == [second.parent]
    assert all(str(part).startswith("runtime/untuned-") for part in found["parts"])  # type: ignore[attr-defined]
    assert engine.search("red mug").items == before
    assert "removed 0 releases" in shortlist("prune", own_bundle, "--keep", 1).stdout
    assert shortlist("prune", own_bundle, "--keep", 0).exit_code == 2


def test_a_second_writer_is_refused_and_readers_are_not(own_bundle: Path, second: Release, tmp_path: Path) -> None:
    with Bundle.open(own_bundle).lock():
        for writer in (
            ["activate", own_bundle, str(second.parent)],
            ["rollback", own_bundle],
            ["prune", own_bundle, "--keep", 1],
        ):
            refused = shortlist(*writer)  # type: ignore[arg-type]
            assert refused.exit_code == 2
            assert f"is being written by process {os.getpid()}" in refused.stderr
        for reader in (["status"], ["list"], ["verify"], ["export", "--out", tmp_path / "v.parquet"]):
            assert shortlist(reader[0], own_bundle, *reader[1:]).exit_code == 0
    assert Bundle.open(own_bundle).current_id() == "second"


def test_export_writes_the_live_index_as_it_is_after_updates(
    own_bundle: Path, delete: Callable[[str], None], tmp_path: Path
) -> None:
    delete("item-00003")
    live = Bundle.open(own_bundle).current()
    found = told("export", own_bundle, "--out", tmp_path / "v.parquet", "--attributes")
    table = pq.read_table(tmp_path / "v.parquet")
    assert (found["items"], found["release"], found["index_revision"]) == (119, live.id, 1)
    assert table.num_rows == 119
    assert "item-00003" not in table["item_id"].to_pylist()
    assert found["columns"] == table.column_names
    assert {"item_id", "title", "price", "vector"} <= set(table.column_names)
    assert f"119 items of release {live.id}" in shortlist("export", own_bundle, "--out", tmp_path / "w.parquet").stdout
    assert pq.read_table(tmp_path / "w.parquet").column_names == ["item_id", "vector"]
