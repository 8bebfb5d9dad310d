"""What a disk, a power cut or a careless hand does to a bundle: it is named, in one line, and what is live stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from modes import held_to_modes, read_only
from typer.testing import CliRunner, Result

from indexing.bundle.bundle import Bundle
from retrieval.errors import BadBundle, CorruptBundle
from serving.cli.app import app
from serving.engine import Engine
from serving.jobs.update_index import Update


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def flip(path: Path, at: int) -> bytes:
    """Flip a bit of one byte; returns what the file was."""
    whole = path.read_bytes()
    data = bytearray(whole)
    data[at] ^= 1
    path.write_bytes(bytes(data))
    return whole


def update(bundle: Path, items: Path, gone: str) -> None:
    (bundle.parent / "gone.txt").write_text(gone)
    Update(upsert=items, delete=bundle.parent / "gone.txt", max_bad=0.1).apply(
        Bundle.open(bundle), device="cpu", say=lambda _: None
    )


def test_one_flipped_byte_in_any_file_is_named_by_verify_and_at_open(
    own_bundle: Path, sample_folder: Path, tmp_path: Path
) -> None:
    items = tmp_path / "items.parquet"
    pq.write_table(pq.read_table(sample_folder / "items.parquet").slice(0, 2), items)
    update(own_bundle, items, "item-00007")
    store = Bundle.open(own_bundle)
    live = store.current()
    parts = [store.path_of(kind, name) for kind, name in live.parts().items()]
    files = [path for part in parts for path in sorted(part.rglob("*")) if path.is_file()]
    for path in [*files, own_bundle / "releases" / f"{live.id}.json", own_bundle / "CURRENT"]:
        whole = flip(path, path.stat().st_size // 2)
        assert str(path) in damage(store.current), path
        assert str(path) in damage(lambda: store.verify().require_sound()), path
        path.write_bytes(whole)
    assert Engine.open(own_bundle, device="cpu").search("red mug").index_revision == 1
    assert store.verify().sound


def damage(look: Callable[[], object]) -> str:
    """What looking at a bundle complains of, in one line."""
    with pytest.raises(BadBundle) as caught:
        look()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_engine_does_not_open_what_is_damaged_and_one_that_is_open_goes_on(own_bundle: Path) -> None:
    engine = Engine.open(own_bundle, device="cpu")
    before = engine.search("red mug", user_id="shopper-00003").items
    path = Bundle.open(own_bundle).path_of("index", engine.release.index) / "text_hashes.npy"
    flip(path, 500)
    engine.refresh()
    assert engine.search("red mug", user_id="shopper-00003").items == before
    with pytest.raises(CorruptBundle, match=f"{path} is changed"):
        Engine.open(own_bundle, device="cpu")


def ids(bundle: Path) -> list[str]:
    return [hit.item_id for hit in Engine.open(bundle, device="cpu").search("red mug").items]


def test_a_damaged_graph_is_made_again_and_answers_as_before(own_bundle: Path) -> None:
    before = ids(own_bundle)
    towers = Bundle.open(own_bundle).current().towers
    graph = own_bundle / "runtime" / towers / "encoder.bin"
    damaged = graph.with_name("damaged")
    flip(graph, graph.stat().st_size // 2)
    damaged.write_bytes(graph.read_bytes())
    assert ids(own_bundle) == before
    assert graph.read_bytes() != damaged.read_bytes()


def test_a_truncated_parquet_is_one_line_and_the_old_release_stays_live(
    own_bundle: Path, sample_folder: Path, tmp_path: Path
) -> None:
    live = Bundle.open(own_bundle).current()
    data = Path(shutil.copytree(sample_folder, tmp_path / "data"))
    whole = (data / "items.parquet").read_bytes()
    (data / "items.parquet").write_bytes(whole[: len(whole) * 2 // 3])
    for command in (["build", own_bundle, "--data", data], ["update", own_bundle, "--upsert", data / "items.parquet"]):
        told = shortlist("index", *command)
        errors = [line for line in told.stderr.splitlines() if line.startswith("error")]
        assert (told.exit_code, len(errors)) == (2, 1), told.stderr
        assert "items.parquet" in errors[0]
    assert Bundle.open(own_bundle).current() == live
    assert Bundle.open(own_bundle).verify().sound
    assert Engine.open(own_bundle, device="cpu").search("red mug").index_revision == 0


@pytest.fixture
def locked_out(own_bundle: Path) -> Iterator[Path]:
    """A bundle that this process may read and not write."""
    with Bundle.open(own_bundle).lock():  # the lock's file is there, as after any run
        pass
    with read_only(own_bundle):
        yield own_bundle


def test_a_read_only_folder_is_one_line_for_every_writer_and_nothing_to_readers(
    locked_out: Path, sample_folder: Path
) -> None:
    live = Bundle.open(locked_out).current()
    for command in (
        ["index", "update", locked_out, "--delete", sample_folder / "items.parquet"],
        ["index", "build", locked_out, "--data", sample_folder],
        ["release", "activate", locked_out, live.id],
        ["release", "rollback", locked_out],
        ["release", "prune", locked_out, "--keep", "1"],
    ):
        told = shortlist(*command)
        errors = [line for line in told.stderr.splitlines() if line.startswith("error")]
        assert (told.exit_code, len(errors)) == (2, 1), told.stderr
        assert "cannot write" in errors[0]
        assert "make the folder writable" in errors[0]
    assert shortlist("release", "verify", locked_out).exit_code == 0
    assert shortlist("index", "status", locked_out).exit_code == 0
    assert Engine.open(locked_out, device="cpu").search("red mug").release == live.id


def test_a_data_set_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0)
    with held_to_modes():
        told = shortlist("check", data)
    assert told.exit_code == 2
    assert told.stderr == f"error: {data}: cannot be read (Permission denied); let this user read the folder\n"
