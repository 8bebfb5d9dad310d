"""An index version: built in parts, reused where texts are unchanged, opened memory-mapped."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from indexing import columns, parts, rebuild
from indexing.guarded import GuardedIndex
from indexing.lookup import hash_keys
from indexing.manifest import Manifest
from indexing.rebuild import Built, build_version
from indexing.releases import Release
from indexing.store import Bundle
from indexing.text_vectors import TextSource
from indexing.version import IndexVersion
from retrieval.errors import BadBundle, BadConfig, BadData, CorruptBundle, GateRefused, StaleArtefact
from retrieval.topk import Vectors, exact_topk

N, TEXT_DIM = 300, 16
STAGES = ["fingerprint", "reuse", "embed", "vectors", "column words", "index", "store"]


class Encoder:
    """Turns a text into a vector that only depends on it, and remembers what it was given."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.read += texts
        seeds = [int.from_bytes(text.encode()[:8].ljust(8), "big") % 2**32 for text in texts]
        return np.stack([np.random.default_rng(seed).normal(size=TEXT_DIM) for seed in seeds]).astype(np.float32)


def with_price(text_vectors: Vectors, items: pa.Table) -> Vectors:
    prices = items["price"].to_numpy().astype(np.float32)
    return np.concatenate([text_vectors, prices[:, None]], axis=1)


class Lengths:
    """A numpy item column: the length of each title, twice."""

    name = "lengths"
    fingerprint = "one"

    def compute(self, items: pa.Table, start: int, stop: int) -> NDArray[np.int32]:
        lengths = [len(title) for title in items["title"].slice(start, stop - start).to_pylist()]
        return np.repeat(np.array(lengths, np.int32)[:, None], 2, axis=1)


class Words:
    """An Arrow item column: the words of each title."""

    name = "words"
    fingerprint = "two"

    def compute(self, items: pa.Table, start: int, stop: int) -> pa.Array:
        titles = items["title"].slice(start, stop - start).to_pylist()
        return pa.array([title.split() for title in titles], pa.list_(pa.string()))


def catalogue(n: int = N, price: float = 1.0) -> tuple[pa.Table, list[str]]:
    titles = [f"{i:04d} thing of kind {i % 7}" for i in range(n)]
    items = pa.table(
        {
            "item_id": [f"id-{i}" for i in range(n)],
            "title": titles,
            "price": [price + i % 5 for i in range(n)],
            "category": pa.array([["a", "b"][: i % 3] for i in range(n)], pa.list_(pa.string())),
        }
    )
    return items, titles


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PART", 128)
    monkeypatch.setattr(columns, "PART", 128)
    monkeypatch.setattr(rebuild, "EMBEDDED_AT_ONCE", 128)


def build(bundle: Bundle, encoder: Encoder | None = None, **changes: object) -> Built:
    items, texts = catalogue()
    arguments: dict[str, object] = {
        "items": items,
        "texts": texts,
        "encode": encoder or Encoder(),
        "item_vectors": with_price,
        "towers": "t1",
        "text_encoder": "minilm",
    }
    return build_version(bundle, **(arguments | changes))  # type: ignore[arg-type]


def test_a_version_holds_items_vectors_columns_and_answers_exactly(bundle: Bundle) -> None:
    encoder = Encoder()
    items, texts = catalogue()
    built = build(bundle, encoder, columns=[Lengths(), Words()])
    assert encoder.read == texts
    version = IndexVersion.open(bundle.path_of("index", built.name), device="cpu")
    expected = with_price(Encoder()(texts), items)
    np.testing.assert_array_equal(version.vectors, expected)
    assert version.items.equals(items)
    assert version.size == N
    assert (built.texts, built.recall) == ((0, 0, N), 1.0)
    assert version.index.is_exact
    hits = version.index.search(expected[:3], 5)
    np.testing.assert_array_equal(hits.rows, exact_topk(expected[:3], expected, 5).rows)
    np.testing.assert_array_equal(version.column("lengths", "one"), np.full((N, 2), len(texts[0])))
    assert version.column("words", "two").to_pylist()[2] == ["0002", "thing", "of", "kind", "2"]
    assert version.manifest.requires == {"towers": "t1"}


def test_ids_are_found_without_a_dictionary_of_them_all(bundle: Bundle) -> None:
    version = IndexVersion.open(build(bundle).path)
    rows = version.rows_of(["id-7", "no such", "id-299", "", "id-7"])
    assert rows.tolist() == [7, -1, 299, -1, 7]
    assert version.ids_of(rows[[0, 2]]) == ["id-7", "id-299"]
    assert version.rows_of([]).tolist() == []


def test_unchanged_texts_are_not_embedded_again_whatever_became_of_their_prices(bundle: Bundle) -> None:
    before = IndexVersion.open(build(bundle).path)
    items, texts = catalogue(price=9.0)
    order = np.random.default_rng(0).permutation(N)
    items, texts = items.take(pa.array(order)), [texts[i] for i in order]
    texts[5], texts[200] = "a new title", "another one"
    encoder = Encoder()
    built = build(bundle, encoder, items=items, texts=texts, previous=before)
    assert encoder.read == ["a new title", "another one"]
    assert built.texts == (N - 2, 0, 2)
    version = IndexVersion.open(built.path)
    np.testing.assert_array_equal(version.vectors, with_price(Encoder()(texts), items))


def test_text_vectors_of_another_encoder_are_not_taken_over(bundle: Bundle) -> None:
    before = IndexVersion.open(build(bundle).path)
    encoder = Encoder()
    built = build(bundle, encoder, text_encoder="another", previous=before)
    assert len(encoder.read) == built.texts.embedded == N


def test_a_build_of_the_same_things_is_the_same_version_and_embeds_nothing(bundle: Bundle) -> None:
    first = build(bundle)
    encoder = Encoder()
    again = build(bundle, encoder, previous=IndexVersion.open(first.path))
    assert encoder.read == []
    assert (again.name, again.path, again.texts.embedded) == (first.name, first.path, 0)
    assert build(bundle, towers="t2").name != first.name


def test_unchanged_files_of_the_previous_version_are_hard_links(bundle: Bundle) -> None:
    first = build(bundle)
    items, _ = catalogue(price=2.0)
    second = build(bundle, items=items, previous=IndexVersion.open(first.path))
    linked = {
        path.name for path in first.path.iterdir() if path.stat().st_ino == (second.path / path.name).stat().st_ino
    }
    assert linked == {"text_vectors.npy", "text_hashes.npy", "id_hashes.npy", "id_first.npy", "id_rows.npy"}


def test_vectors_may_be_given_without_a_text_encoder(bundle: Bundle) -> None:
    given = np.random.default_rng(1).normal(size=(N, 8)).astype(np.float32)

    def look_up(text_vectors: Vectors, items: pa.Table) -> Vectors:
        assert text_vectors.shape == (items.num_rows, 0)
        return given[[int(name.removeprefix("id-")) for name in items["item_id"].to_pylist()]]

    built = build(bundle, encode=None, item_vectors=look_up)
    assert built.texts == (0, 0, 0)
    version = IndexVersion.open(built.path)
    assert version.text_vectors is None
    np.testing.assert_array_equal(version.vectors, given)


def test_an_approximate_kind_is_tuned_to_its_recall_and_the_curve_is_written_down(bundle: Bundle) -> None:
    built = build(bundle, factory="IVF16,SQ8", recall_target=0.9)
    about = Manifest.read(built.path).about
    assert built.recall >= 0.9
    assert about["recall"] == built.recall
    curve = about["choice"]["curve"]  # type: ignore[index, call-overload]
    assert built.recall in {point["recall"] for point in curve}  # type: ignore[index, call-overload, union-attr]
    assert "asked for; IVF16,SQ8 at nprobe" in about["choice"]["why"]  # type: ignore[index, call-overload, operator]
    assert about["recall_queries"] == "256 item vectors"
    version = IndexVersion.open(built.path)
    assert not version.index.is_exact
    rows = version.index.search(version.vectors[:50], 1).rows[:, 0]
    truth = exact_topk(version.vectors[:50], version.vectors, 1).rows[:, 0]
    assert np.mean(rows == truth) >= 0.9


def test_recall_is_measured_on_user_vectors_where_there_are_any(bundle: Bundle) -> None:
    users = np.random.default_rng(2).normal(size=(40, TEXT_DIM + 1)).astype(np.float32)
    built = build(bundle, factory="HNSW8", queries=users)
    assert Manifest.read(built.path).about["recall_queries"] == "40 user vectors"


def test_a_kind_that_was_asked_for_is_told_to_miss_its_recall_and_refused_where_it_misses_its_memory(
    bundle: Bundle,
) -> None:
    missed = build(bundle, factory="PCA1,Flat")
    with pytest.raises(GateRefused, match=r"'PCA1,Flat' reaches recall@100 0\.\d+ .* 0\.95 is wanted"):
        missed.require_recall(0.95)
    missed.require_recall(0.0)
    shutil.rmtree(missed.path)
    with pytest.raises(BadConfig, match=r"'HNSW8' holds \d+\.\d kB, 1\.0 kB is allowed"):
        build(bundle, factory="HNSW8", memory=1_000)
    assert list((bundle.path / "index").iterdir()) == []


def test_a_small_catalogue_is_searched_exactly_and_says_why(bundle: Bundle) -> None:
    built = build(bundle)
    assert IndexVersion.open(built.path).index.is_exact
    assert not (built.path / "index.faiss").exists()
    about = Manifest.read(built.path).about
    assert (about["factory"], about["filters"]) == ("Flat", {})
    assert "quick enough" in about["choice"]["why"]  # type: ignore[index, call-overload, operator]


def test_what_was_measured_of_filters_is_kept_and_followed(bundle: Bundle) -> None:
    built = build(bundle, factory="SQ8")
    filters = Manifest.read(built.path).about["filters"]
    assert 0 < filters["exact_rows"] < N  # type: ignore[index, call-overload, operator]
    assert {"allowed", "exact_ms", "index_ms", "recall"} == set(filters["costs"][0])  # type: ignore[index, call-overload, arg-type]
    index = IndexVersion.open(built.path).index
    assert isinstance(index, GuardedIndex)
    assert index.exact_rows == filters["exact_rows"]  # type: ignore[index, call-overload]


def test_measuring_again_makes_no_other_version(bundle: Bundle) -> None:
    assert build(bundle, factory="SQ8").name == build(bundle, factory="SQ8").name


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
    with pytest.raises(BadData, match="300 items with 299 texts"):
        build(bundle, texts=texts[1:])
    with pytest.raises(BadData, match="0 items"):
        build(bundle, items=items.slice(0, 0), texts=[])
    with pytest.raises(BadConfig, match="Nope"):
        build(bundle, factory="Nope")


@pytest.mark.parametrize(
    ("module", "step"),
    [(rebuild, "write_npy"), (rebuild, "write_table"), (rebuild, "write_index"), (parts, "replace_file")],
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


def test_progress_is_told_by_stage(bundle: Bundle) -> None:
    told: list[tuple[str, int, int]] = []
    build(bundle, factory="SQ8", columns=[Words()], progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "embed"] == [("embed", done, N) for done in (0, 128, 256, N)]
    assert [*dict.fromkeys(stage for stage, _, _ in told)] == STAGES
    assert all(done <= total == N for stage, done, total in told if stage != "store")


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

    with pytest.raises(ValueError, match=r"column lengths gave 127 values for rows 0 to 128"):
        build(bundle, columns=[Short()])


class Killed(Encoder):
    """An encoder that is killed when it is to read more than so many texts."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if len(self.read) + len(texts) > self.after:
            raise KeyboardInterrupt
        return super().__call__(texts)


def test_what_a_killed_build_embedded_is_not_embedded_again(bundle: Bundle) -> None:
    items, texts = catalogue()
    killed = Killed(after=260)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, killed)
    assert killed.read == texts[:256]
    encoder = Encoder()
    built = build(bundle, encoder)
    assert encoder.read == texts[256:]
    assert built.texts == (0, 256, N - 256)
    assert str(built.texts) == "0 with vectors as they were, 256 embedded by the interrupted job, 44 embedded"
    version = IndexVersion.open(built.path)
    np.testing.assert_array_equal(version.vectors, with_price(Encoder()(texts), items))


def test_parts_of_another_encoder_are_not_gone_on_from(bundle: Bundle) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(bundle, Killed(after=260))
    assert build(bundle, text_encoder="another").texts == (0, 0, N)


def test_items_of_one_text_are_embedded_once(bundle: Bundle) -> None:
    _, texts = catalogue()
    encoder = Encoder()
    built = build(bundle, encoder, texts=[texts[row % 10] for row in range(N)])
    assert encoder.read == texts[:10]
    assert built.texts.embedded == N
    vectors = IndexVersion.open(built.path).text_vectors
    assert vectors is not None
    np.testing.assert_array_equal(vectors, Encoder()([texts[row % 10] for row in range(N)]))


def test_vectors_at_hand_are_taken_over(bundle: Bundle) -> None:
    _, texts = catalogue()
    encoder = Encoder()
    known = TextSource(hash_keys(texts[100:]), Encoder()(texts[100:]))
    assert build(bundle, encoder, sources=[known]).texts == (200, 0, 100)
    assert encoder.read == texts[:100]


def test_text_vectors_with_a_flipped_byte_are_embedded_again(bundle: Bundle) -> None:
    first = build(bundle)
    path = first.path / "text_vectors.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    shutil.rmtree(bundle.path / "work")
    items, _ = catalogue(price=2.0)
    assert build(bundle, items=items, previous=IndexVersion.open(first.path)).texts == (0, 0, N)


def test_where_no_kind_fits_in_the_memory_the_vectors_stay_in_their_file_and_the_manifest_says_so(
    bundle: Bundle,
) -> None:
    about = Manifest.read(build(bundle, memory=1_000).path).about
    assert about["factory"] == "Flat"
    assert "read from their file" in str(about["choice"]["why"])  # type: ignore[index,call-overload]
