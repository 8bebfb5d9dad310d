"""An index as Parquet: what a vector database gets is what is searched, updates applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing.bundle.bundle import Bundle
from indexing.version import export as exporting
from indexing.version.build import build_version
from indexing.version.export import export_version
from indexing.version.hash_index import hash_keys
from indexing.version.index_version import IndexVersion
from indexing.version.segments import Upserts, append_segment, write_segment
from retrieval.errors import BadBundle, BadConfig

N, DIM, READ = 40, 4, 6


def numbers(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, READ)).astype(np.float32)


def items_of(names: list[str], column: str = "price") -> pa.Table:
    return pa.table({"item_id": names, "title": [f"title {name}" for name in names], column: [1.5] * len(names)})


def version_of(bundle: Bundle, column: str = "price") -> IndexVersion:
    items = items_of([f"i{n}" for n in range(N)], column)
    made = build_version(
        bundle,
        items=items,
        texts=items["title"].to_pylist(),
        encode=lambda texts: np.ones((len(texts), 2), np.float32),
        item_vectors=lambda _, part: numbers(0, N)[[int(one[1:]) for one in part["item_id"].to_pylist()]],
        searched=DIM,
        towers="t1",
        text_encoder="e",
    )
    return IndexVersion.open(made.path, device="cpu")


@pytest.fixture
def updated(bundle: Bundle) -> IndexVersion:
    """i1 changed, n0 new, i2 deleted."""
    version = version_of(bundle)
    with bundle.stage("delta") as folder:
        items = items_of(["i1", "n0"])
        vectors = numbers(1, 2)
        write_segment(folder, Upserts(items, vectors, vectors[:, :2].copy(), hash_keys(["a", "b"])), ["i2"])
        append_segment(version.folder, folder, 1)
    return version.updated()


def vectors_of(table: pa.Table) -> np.ndarray:
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return flat.reshape(table.num_rows, -1)


def test_ids_and_vectors_are_those_that_are_searched_with_updates_applied(
    updated: IndexVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PART", 16)
    done = export_version(updated, tmp_path / "new" / "v.parquet", release="r7")
    table = pq.read_table(done.path)
    expected = {f"i{n}": vector[:DIM] for n, vector in enumerate(numbers(0, N)) if n != 2}
    expected |= {name: vector[:DIM] for name, vector in zip(("i1", "n0"), numbers(1, 2), strict=True)}
    assert (done.items, done.dim, done.columns) == (N, DIM, ("item_id", "vector"))
    assert table["item_id"].to_pylist() == [*(name for name in expected if name != "n0"), "n0"]
    np.testing.assert_array_equal(
        vectors_of(table), np.stack([expected[name] for name in table["item_id"].to_pylist()])
    )
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIM)
    assert pq.ParquetFile(done.path).num_row_groups == 3
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about == {"release": "r7", "index": updated.name, "index_revision": "1", "metric": "inner product"}
    assert [path.name for path in done.path.parent.iterdir()] == ["v.parquet"]


def test_attributes_come_where_they_are_asked_for(updated: IndexVersion, tmp_path: Path) -> None:
    done = export_version(updated, tmp_path / "v.parquet", release="r", attributes=True)
    table = pq.read_table(done.path)
    assert table.column_names == ["item_id", "title", "price", "vector"]
    rows = updated.rows_of(table["item_id"].to_pylist())
    assert table.drop_columns("vector").replace_schema_metadata().equals(updated.items_at(rows))


def test_an_attribute_named_as_the_vector_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    version = version_of(bundle, "vector")
    with pytest.raises(BadConfig, match="items have an attribute named vector; export without attributes"):
        export_version(version, tmp_path / "v.parquet", release="r", attributes=True)
    assert export_version(version, tmp_path / "v.parquet", release="r").items == N


def test_a_file_that_cannot_be_written_leaves_the_one_before(updated: IndexVersion, tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    path.mkdir()
    with pytest.raises(BadBundle, match="cannot write"):
        export_version(updated, path, release="r")
    assert [one.name for one in tmp_path.iterdir() if one.name != "bundle"] == ["v.parquet"]


def test_an_index_whose_items_are_all_deleted_is_an_empty_file(bundle: Bundle, tmp_path: Path) -> None:
    version = version_of(bundle)
    with bundle.stage("delta") as folder:
        write_segment(folder, None, [f"i{n}" for n in range(N)])
        append_segment(version.folder, folder, 1)
    done = export_version(version.updated(), tmp_path / "v.parquet", release="r")
    assert pq.read_table(done.path).num_rows == done.items == 0
