"""Numbers that a catalogue's texts are embedded in: asked for once, recorded, and kept to by whatever comes after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from retrieval.encoders import runtime
from retrieval.encoders.int8_file import holds_int8
from retrieval.towers.serving import TEXT
from serving.cli.app import app
from serving.jobs.train_one import recorded_settings

pytestmark = pytest.mark.usefixtures("one_thread")


def index(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, ["index", *map(str, arguments), "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_an_index_in_int8_is_embedded_anew_and_what_follows_stays_in_it(
    sample_folder: Path,
    own_bundle: Path,
    tmp_path: Path,
    without_fast_bf16: Callable[[], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_it = without_fast_bf16()
    monkeypatch.setattr(runtime, "has_fast_bf16", without_fast_bf16)
    items = pq.read_table(sample_folder / "items.parquet")
    (data := tmp_path / "data").mkdir()
    shutil.copy(sample_folder / "items.parquet", data)
    before = Bundle.open(own_bundle).current()
    assert holds_int8(Bundle.open(own_bundle).path_of("towers", before.towers) / TEXT)
    told = index("build", own_bundle, "--data", data, "--precision", "int8")
    bundle = Bundle.open(own_bundle)
    release = bundle.current()
    assert recorded_settings(bundle)["retrieval"]["precision"] == "int8"  # type: ignore[index]
    assert told["embedded"] == (items.num_rows if has_it else 0)
    assert release.index != before.index
    version = IndexVersion.open(bundle.path_of("index", release.index), device="cpu")
    changed = items.slice(0, 2).set_column(
        items.schema.get_field_index("title"), "title", [["a new title", items["title"][1].as_py()]]
    )
    pq.write_table(changed, upserts := tmp_path / "upserts.parquet")
    updated = index("update", own_bundle, "--upsert", upserts)
    assert (updated["embedded"], updated["upserted"]) == (1, 2)
    pq.write_table(pa.concat_tables([changed.slice(0, 1), items.slice(1)]), data / "items.parquet")
    again = index("build", own_bundle, "--data", data)
    assert again["embedded"] == 0
    after = Bundle.open(own_bundle)
    rebuilt = IndexVersion.open(after.path_of("index", after.current().index), device="cpu")
    assert rebuilt.manifest.about["text_encoder"] == version.manifest.about["text_encoder"]
