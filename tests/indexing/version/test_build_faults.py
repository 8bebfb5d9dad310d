"""What no index version is built of, and damage to one: refused by name, and nothing is left behind."""

from __future__ import annotations

import errno
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from index_builds import Lengths, Words, build, catalogue, with_price
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version import build as rebuild
from indexing.version import embedding_cache
from indexing.version.index_version import IndexVersion
from retrieval.errors import BadBundle, BadConfig, BadData, CorruptBundle, StaleArtefact
from retrieval.topk import Vectors

pytestmark = pytest.mark.usefixtures("small_parts")


def test_a_vector_that_is_not_a_number_is_refused_by_item_and_nothing_is_left(bundle: Bundle) -> None:
    def broken(text_vectors: Vectors, items: pa.Table) -> Vectors:
        vectors = with_price(text_vectors, items)
        vectors[items["item_id"].to_numpy(zero_copy_only=False) == "id-200", 3] = np.nan
        return vectors

    with pytest.raises(BadData, match="item id-200 holds nan"):
        build(bundle, item_vectors=broken)
    assert list((bundle.path / "index").iterdir()) == []
    assert list((bundle.path / ".staging").iterdir()) == []


def test_no_items_or_a_kind_unknown_are_refused(bundle: Bundle) -> None:
    items, texts = catalogue()
    with pytest.raises(BadData, match="300 items, 299 texts"):
        build(bundle, texts=texts[1:])
    with pytest.raises(BadData, match="0 items"):
        build(bundle, items=items.slice(0, 0), texts=[])
    with pytest.raises(BadConfig, match="Nope"):
        build(bundle, factory="Nope")


@pytest.mark.parametrize(
    ("module", "step"),
    [(rebuild, "write_npy"), (rebuild, "write_table"), (rebuild, "write_index"), (embedding_cache, "replace_file")],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, step, full)
    with pytest.raises(BadBundle, match=r"cannot write .*: No space left on device; free some space"):
        build(bundle)
    assert list((bundle.path / ".staging").iterdir()) == []


def test_a_column_of_another_maker_or_none_is_refused(bundle: Bundle) -> None:
    version = IndexVersion.open(build(bundle, columns=[Lengths()]).path)
    with pytest.raises(StaleArtefact, match=r"column lengths .* was made by one, three is in use"):
        version.column("lengths", "three")
    with pytest.raises(BadBundle, match="holds no item column words"):
        version.column("words")


@pytest.mark.parametrize("kind", ["Flat", "HNSW8"])
def test_every_damaged_file_of_a_version_is_found_by_name(bundle: Bundle, kind: str) -> None:
    built = build(bundle, factory=kind, columns=[Lengths(), Words()])
    with bundle.stage("towers") as folder:
        (folder / "weights.bin").write_bytes(b"w")
        bundle.add("towers", "t1", folder)
    bundle.publish(Release(id="r1", created="2024", towers="t1", index=built.name))
    files = [path for path in built.path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) == (9 if kind == "Flat" else 10)
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 64
        path.write_bytes(bytes(data))
    assert {fault.path for fault in bundle.verify().faults} == set(files)


@pytest.mark.parametrize("name", ["vectors.npy", "items.arrow", "index.faiss", "id_rows.npy", "text_hashes.npy"])
def test_a_file_that_cannot_be_read_is_named_at_open(bundle: Bundle, name: str) -> None:
    built = build(bundle, factory="IVF4,Flat")
    path = built.path / name
    for damaged in (b"", path.read_bytes()[:40]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptBundle, match=name):
            IndexVersion.open(built.path)
    path.unlink()
    with pytest.raises(CorruptBundle, match=name):
        IndexVersion.open(built.path)


def test_a_version_that_does_not_say_how_to_search_is_named(bundle: Bundle, tmp_path: Path) -> None:
    built = build(bundle)
    text = (built.path / "manifest.json").read_text().replace('"nprobe"', '"probes"')
    (built.path / "manifest.json").write_text(text)
    with pytest.raises(CorruptBundle, match="does not say how to search"):
        IndexVersion.open(built.path)


def test_a_column_that_gives_too_few_values_is_a_fault(bundle: Bundle) -> None:
    class Short(Lengths):
        def compute(self, items: pa.Table, start: int, stop: int) -> NDArray[np.int32]:
            return super().compute(items, start, stop)[1:]

    with pytest.raises(ValueError, match=r"column lengths returned 127 values for rows 0 to 128"):
        build(bundle, columns=[Short()])
