"""An index version: built in parts, of a kind that is chosen by measuring, opened memory-mapped."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest

from index_builds import TEXT_DIM, Encoder, Lengths, N, Words, build, catalogue, with_price
from indexing.ann.guarded import GuardedIndex
from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import Manifest
from indexing.version.index_version import IndexVersion
from retrieval.errors import BadConfig, GateRefused
from retrieval.topk import Vectors, exact_topk

pytestmark = pytest.mark.usefixtures("small_parts")
STAGES = ["fingerprint", "reuse", "embed", "vectors", "column words", "index", "store"]


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
    assert "set; IVF16,SQ8 at nprobe" in about["choice"]["why"]  # type: ignore[index, call-overload, operator]
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
    with pytest.raises(BadConfig, match=r"'HNSW8' takes \d+\.\d kB, and 1\.0 kB is allowed"):
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


def test_progress_is_told_by_stage(bundle: Bundle) -> None:
    told: list[tuple[str, int, int]] = []
    build(bundle, factory="SQ8", columns=[Words()], progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "embed"] == [("embed", done, N) for done in (0, 128, 256, N)]
    assert [*dict.fromkeys(stage for stage, _, _ in told)] == STAGES
    assert all(done <= total == N for stage, done, total in told if stage != "store")


def test_where_no_kind_fits_in_the_memory_the_vectors_stay_in_their_file_and_the_manifest_says_so(
    bundle: Bundle,
) -> None:
    about = Manifest.read(build(bundle, memory=1_000).path).about
    assert about["factory"] == "Flat"
    assert "read from their file" in str(about["choice"]["why"])  # type: ignore[index,call-overload]
