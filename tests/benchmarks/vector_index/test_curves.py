"""Indexes: every kind is measured against exact search, and other libraries are left out with a line."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.vector_index.curves import IndexCurves
from benchmarks.vector_index.other_libraries import GraphIndex, build_hnswlib, build_usearch
from benchmarks.vector_index.synthetic import NEAR, more_like
from device_fakes import LikeGpu
from indexing.ann import gpu
from indexing.ann.faiss_index import import_faiss
from indexing.ann.guarded import GuardedIndex
from indexing.ann.recall import recalls
from retrieval.errors import MissingDependency
from retrieval.topk import Vectors, exact_topk

KINDS = ["HNSW8", "IVF16,Flat", "NoSuchKind"]


def unit(n: int, seed: int) -> Vectors:
    made = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def curves() -> IndexCurves:
    return IndexCurves(unit(600, 0), unit(20, 1), seconds=0.0)


def test_exact_search_finds_all_and_more_effort_finds_no_less(
    curves: IndexCurves, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    exact_rows: list[object] = []

    def noted(*given: Any, **options: Any) -> GuardedIndex:
        exact_rows.append(options.get("exact_rows"))
        return GuardedIndex(*given, **options)

    monkeypatch.setattr("benchmarks.vector_index.curves.GuardedIndex", noted)
    lines = list(curves.lines(KINDS))
    found = {tuple(line.labels.values()): line.summary for line in lines if line.measured == "index"}
    assert found["exact", "all vectors", "one at a time"]["recall"] == 1
    assert found["IVF16,Flat", "nprobe 16", "one at a time"]["recall"] == 1
    for kind, less, more in (("HNSW8", "ef_search 64", "ef_search 1024"), ("IVF16,Flat", "nprobe 4", "nprobe 16")):
        assert found[kind, less, "20 at once"]["recall"] <= found[kind, more, "20 at once"]["recall"]  # type: ignore[operator]
    said = capsys.readouterr().err
    assert "left out: index kind 'NoSuchKind'" in said
    assert "pip install hnswlib" in said
    assert "pip install usearch" in said
    built = {line.labels["kind"]: line.summary for line in lines if line.measured == "index, built"}
    assert set(built) == {"HNSW8", "IVF16,Flat"}
    assert all((one["MB"] or 0) > 0.03 for one in built.values())
    filtered = {tuple(line.labels.values()): line.summary for line in lines if line.measured == "index, by filter"}
    kinds = ("exact, over the allowed", "HNSW8", "IVF16,Flat")
    assert set(filtered) == {(kind, share) for share in ("50%", "10%", "1%") for kind in kinds}
    for (kind, _), summary in filtered.items():
        assert summary["recall"] == 1 if kind == kinds[0] else 0.3 < (summary["recall"] or 0) <= 1
    assert exact_rows.count(0) == 6  # an index answers by itself, however few rows there are


def test_a_catalogue_grows_beyond_its_items_by_more_like_them(curves: IndexCurves) -> None:
    lines = [line for line in curves.lines([], sizes=[300, 1_200]) if line.measured == "index, growth"]
    found = {(line.labels["kind"], line.labels["items"]): line.summary for line in lines}
    assert set(found) == {("exact", "300"), ("exact", "1200"), ("IVF,SQ8", "1200"), ("HNSW32_SQ8", "1200")}
    assert [found["exact", size]["made items"] for size in ("300", "1200")] == [0, 600]
    assert all(summary["recall"] == 1 for (kind, _), summary in found.items() if kind == "exact")
    assert (found["HNSW32_SQ8", "1200"]["MB"] or 0) < (found["exact", "1200"]["MB"] or 0) * 10
    more = more_like(curves.items, 50, np.random.default_rng(3))
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((more @ curves.items.T).max(axis=1), NEAR, atol=0.05)


def test_kinds_with_a_gpu_form_are_measured_there_too(curves: IndexCurves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_faiss(), "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(gpu, "on_gpus", lambda faiss, source, n_gpus, *, shard: LikeGpu(source.reconstruct_n(0, 600)))
    lines = [line for line in replace(curves, gpu=True).lines(["HNSW8", "SQ8"]) if line.measured == "index"]
    found = {line.labels["kind"]: line.summary["recall"] for line in lines if "GPU" in line.labels["kind"]}
    assert found == {"Flat on the GPU": 1.0}  # HNSW has none, nor has SQ8 without cells


def test_a_graph_of_another_library_answers_as_a_backend() -> None:
    items, queries = unit(50, 2), unit(5, 3)

    def ask(asked: Vectors, k: int, ef: int) -> tuple[np.ndarray, np.ndarray]:
        assert ef >= k
        hits = exact_topk(asked, items, k)
        return hits.rows.astype(np.uint64), hits.scores

    index = GraphIndex(ask, 50, 16, "cpu: other").with_ef(2)
    guarded = GuardedIndex(index, items, exact_rows=0)
    assert (recalls(guarded, queries, exact_topk(queries, items, 7)) == 1).all()
    allowed = np.arange(50) % 2 == 0
    found = guarded.search(queries, 7, allowed=allowed)
    assert found.rows.tolist() == exact_topk(queries, items, 7, allowed=allowed).rows.tolist()
    with pytest.raises(ValueError, match="cannot filter"):
        index.search(queries, 3, allowed=allowed)


@pytest.mark.parametrize(("build", "module"), [(build_hnswlib, "hnswlib"), (build_usearch, "usearch.index")])
def test_a_real_graph_is_near_exact_where_its_library_is_installed(build, module: str) -> None:
    pytest.importorskip(module)
    items, queries = unit(500, 4), unit(20, 5)
    index = GuardedIndex(build(items).with_ef(200), items)
    assert recalls(index, queries, exact_topk(queries, items, 10)).mean() > 0.95


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(MissingDependency, match="pip install hnswlib"):
        build_hnswlib(unit(3, 0))
