"""Columns come to a version that is there already, without copying it, and never at the cost of its updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from indexing.bundle.bundle import Bundle
from indexing.bundle.prune import discard
from indexing.bundle.verify import folder_faults
from indexing.version.build import build_version, with_columns
from indexing.version.index_version import IndexVersion
from indexing.version.segments import append_segment, write_segment
from retrieval.errors import StaleArtefact

N = 50


class Constant:
    """The same number for every item."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value, self.fingerprint = name, value, str(value)

    def compute(self, items: pa.Table, start: int, stop: int) -> NDArray[np.int64]:
        return np.full(stop - start, self.value)


@pytest.fixture
def version(bundle: Bundle) -> IndexVersion:
    items = pa.table({"item_id": [f"i{n}" for n in range(N)], "title": ["x"] * N})
    vectors = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
    built = build_version(
        bundle, items=items, texts=["x"] * N, encode=lambda texts: vectors[: len(texts)],
        item_vectors=lambda given, _: given, towers="t", text_encoder="e", columns=[Constant("old", 1)],
    )  # fmt: skip
    return IndexVersion.open(built.path, device="cpu")


def opened(bundle: Bundle, name: str | None) -> IndexVersion:
    assert name is not None
    return IndexVersion.open(bundle.path_of("index", name), device="cpu")


def test_a_column_is_added_and_every_other_file_is_shared(bundle: Bundle, version: IndexVersion) -> None:
    found = opened(bundle, with_columns(bundle, version, [Constant("new", 7)]))
    assert found.name != version.name
    np.testing.assert_array_equal(found.column("new", "7"), np.full(N, 7))
    np.testing.assert_array_equal(found.column("old", "1"), np.full(N, 1))
    np.testing.assert_array_equal(found.vectors, version.vectors)
    assert found.manifest.requires == version.manifest.requires
    for name in version.manifest.files:
        assert (found.folder / name).samefile(version.folder / name)
    assert not list(folder_faults(found.folder, found.manifest))
    discard(bundle, {"index": version.name, "words": "none"})
    assert not version.folder.exists()
    assert not list(folder_faults(found.folder, found.manifest))
    assert "new" not in version.manifest.about["columns"]  # type: ignore[operator]


def test_a_stale_column_is_made_again(bundle: Bundle, version: IndexVersion) -> None:
    found = opened(bundle, with_columns(bundle, version, [Constant("old", 2)]))
    np.testing.assert_array_equal(found.column("old", "2"), np.full(N, 2))
    with pytest.raises(StaleArtefact):
        found.column("old", "1")
    np.testing.assert_array_equal(version.column("old", "1"), np.full(N, 1))


def test_a_version_that_holds_them_is_left_alone(bundle: Bundle, version: IndexVersion) -> None:
    assert with_columns(bundle, version, [Constant("old", 1)]) == version.name


def test_a_version_with_updates_is_left_alone(bundle: Bundle, version: IndexVersion, tmp_path: Path) -> None:
    folder = tmp_path / "update"
    folder.mkdir()
    write_segment(folder, None, ["i3"])
    append_segment(version.folder, folder, 1)
    assert with_columns(bundle, version, [Constant("new", 7)]) is None
