"""`index update --patch`: prices and stock change, texts are embedded where they do, and strangers are listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from retrieval.encoders.text_encoder import TextEncoder
from serving.cli.app import app
from serving.engine import Engine


@pytest.fixture(scope="module")
def items(sample_folder: Path) -> pa.Table:
    return pq.read_table(sample_folder / "items.parquet")


def live(bundle: Path) -> IndexVersion:
    store = Bundle.open(bundle)
    return IndexVersion.open(store.path_of("index", store.current().index), device="cpu").updated()


def run(bundle: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["index", "update", str(bundle), "--device", "cpu", *map(str, arguments)])


def test_a_price_feed_changes_prices_alone_and_embeds_nothing(
    own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text was encoded")

    engine = Engine.open(own_bundle, device="cpu")
    prices = [price * 1.0001 for price in items["price"].to_pylist()[:3]]  # within their bands, which the text names
    lines = [f"{item},{price}" for item, price in zip(items["item_id"].to_pylist(), prices, strict=False)]
    feed = tmp_path / "prices.csv"
    feed.write_text("\n".join(["item_id,price", *lines, "stranger,5", "stranger too,6"]))
    before = live(own_bundle)
    monkeypatch.setattr(TextEncoder, "encode", refuse)
    done = run(own_bundle, "--patch", feed, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["upserted"], told["new"], told["embedded"]) == (3, 0, 0)
    assert told["not_patched"] == ["stranger", "stranger too"]
    assert "2 items are not in the index: stranger, stranger too" in done.stderr
    after, rows = live(own_bundle), np.arange(items.num_rows)
    assert after.values_at("price", rows).to_pylist()[:3] == prices
    left = [name for name in items.column_names if name != "price"]
    assert after.items_at(rows).select(left).equals(before.items_at(rows).select(left))
    assert after.rows_of(["stranger"]).tolist() == [-1]
    monkeypatch.undo()
    engine.refresh()
    found = engine.recommend(k=200, filter_seen=False, filters=[("price", "in", prices)])
    assert {hit.item_id for hit in found.items} == set(items["item_id"].to_pylist()[:3])


def test_a_new_title_is_embedded_and_deleted_items_stay_deleted(
    own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    kept, gone = items["item_id"].to_pylist()[:2]
    (tmp_path / "gone.csv").write_text(f'"{gone}"\n')
    assert run(own_bundle, "--delete", tmp_path / "gone.csv").exit_code == 0
    pq.write_table(pa.table({"item_id": [kept, gone], "title": ["blue lamp", "x"]}), tmp_path / "titles.parquet")
    told = json.loads(run(own_bundle, "--patch", tmp_path / "titles.parquet", "--json").stdout)
    assert (told["upserted"], told["embedded"], told["not_patched"]) == (1, 1, [gone])
    assert live(own_bundle).held([kept, gone]) == [kept]


def test_a_patch_of_strangers_alone_changes_nothing(own_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "stock.csv").write_text("item_id,in_stock\nstranger,no\n")
    assert run(own_bundle, "--patch", tmp_path / "stock.csv").exit_code == 0
    assert live(own_bundle).revision == 0


def test_items_of_given_vectors_can_be_patched(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    store = Bundle.open(own_bundle)
    given = replace(store.current(), id="given", parent=None, manifests={})
    store.publish(replace(given, settings=given.settings | {"item_vectors": "given"}))
    item, before = items["item_id"][4].as_py(), live(own_bundle)
    (tmp_path / "prices.csv").write_text(f"item_id,price\n{item},77\n")
    done = run(own_bundle, "--patch", tmp_path / "prices.csv")
    assert done.exit_code == 0, done.output
    after = live(own_bundle)
    assert after.values_at("price", np.array([4])).to_pylist() == [77.0]
    np.testing.assert_array_equal(after.vectors_at(np.array([4])), before.vectors_at(np.array([4])))


def test_what_cannot_be_patched_is_one_line_and_changes_nothing(own_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "patch.csv").write_text("item_id,price\na,cheap\n")
    pq.write_table(pa.table({"item_id": ["a"], "title": ["b"]}), tmp_path / "items.parquet")
    for arguments in (
        ["--patch", tmp_path / "patch.csv"],
        ["--patch", tmp_path / "none.csv"],
        ["--patch", tmp_path / "patch.csv", "--upsert", tmp_path / "items.parquet"],
    ):
        done = run(own_bundle, *arguments)
        assert done.exit_code == 2
        assert "Traceback" not in done.output
    assert live(own_bundle).revision == 0
