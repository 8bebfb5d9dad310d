"""Where an index runs, what is made of one that ignores filters, and the real thing on a GPU where there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_fakes import LikeGpu
from indexing.ann import gpu, opening
from indexing.ann.faiss_index import FaissIndex, import_faiss
from indexing.ann.gpu import MAX_K, DeviceChoice, GpuIndex, choose_device, on_gpus
from indexing.ann.guarded import GuardedIndex
from indexing.ann.opening import build_index, open_index
from indexing.ann.protocols import VectorIndex
from indexing.version.delta import Delta
from indexing.version.segments import Segment, Upserts
from retrieval.errors import BadConfig, MissingDependency
from retrieval.topk import CSR, Vectors, exact_topk


def faiss_with(gpus: int | None) -> ModuleType:
    """A faiss module that has no GPU support (None) or sees so many GPUs."""
    module = ModuleType("faiss")
    if gpus is not None:
        module.__dict__.update(StandardGpuResources=object, get_num_gpus=lambda: gpus)
    return module


def vectors(n: int = 3_000, dim: int = 32, seed: int = 0) -> Vectors:
    raw = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("device", "factory", "gpus", "taken", "why"),
    [
        ("cpu", "Flat", 1, "cpu", "as set"),
        ("auto", "Flat", 1, "cuda", "a GPU is present"),
        ("auto", "IVF1024,SQ8", 2, "cuda", "a GPU is present"),
        ("auto", "HNSW32_SQ8", 1, "cpu", "HNSW32_SQ8 does not run on a GPU"),
        ("auto", "IVF64,PQ16x4fs,RFlat", 1, "cpu", "does not run on a GPU"),
        ("auto", "Flat", 0, "cpu", "no CUDA device is visible"),
        ("auto", "Flat", None, "cpu", "the installed FAISS has no GPU support"),
        ("cuda", "IVF64,Flat", 1, "cuda", "a GPU is present"),
    ],
)
def test_the_device_is_chosen_and_says_why(device: str, factory: str, gpus: int | None, taken: str, why: str) -> None:
    choice = choose_device(device, factory, faiss_with(gpus))
    assert choice.device == taken
    assert why in choice.why


def test_cuda_asked_for_and_absent_names_what_to_install() -> None:
    for gpus, why in ((None, "no GPU support"), (0, "no CUDA device")):
        with pytest.raises(MissingDependency, match=rf"{why}.*run: pip .*shortlist\[gpu\]"):
            choose_device("cuda", "Flat", faiss_with(gpus))


def test_cuda_for_a_kind_without_a_gpu_form_and_devices_unknown_are_refused() -> None:
    with pytest.raises(BadConfig, match="'HNSW32' does not run on a GPU"):
        choose_device("cuda", "HNSW32", faiss_with(1))
    with pytest.raises(BadConfig, match="device is 'tpu'; use auto, cpu or cuda"):
        choose_device("tpu", "Flat")


def test_a_machine_without_a_gpu_searches_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    if choose_device("auto", "Flat").device == "cuda":
        pytest.skip("a GPU is present")
    items = vectors()
    assert open_index(tmp_path / "none", items, factory="Flat").placement == "cpu: exact search"
    FaissIndex.build(items, "HNSW8").write(tmp_path / "index.faiss")
    opened = open_index(tmp_path / "index.faiss", items, factory="HNSW8")
    assert opened.placement == "cpu: FAISS IndexHNSWFlat"
    with pytest.raises(MissingDependency, match=r"shortlist\[gpu\]"):
        open_index(tmp_path / "none", items, factory="Flat", device="cuda")


@pytest.fixture
def like_gpu(monkeypatch: pytest.MonkeyPatch) -> list[LikeGpu]:
    """Two GPUs that are none; what was put on them, in order."""
    made: list[LikeGpu] = []

    def put(faiss: ModuleType, source: Any, n_gpus: int, *, shard: bool) -> LikeGpu:
        made.append(LikeGpu(source.reconstruct_n(0, source.ntotal)))
        return made[-1]

    monkeypatch.setattr(opening, "choose_device", lambda device, factory: DeviceChoice("cuda", "a test"))
    monkeypatch.setattr(import_faiss(), "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(gpu, "on_gpus", put)
    return made


def test_an_index_is_copied_tried_and_then_answers_from_the_device(like_gpu: list[LikeGpu], tmp_path: Path) -> None:
    items = vectors()
    index = open_index(tmp_path / "none", items, factory="Flat", device="cuda")
    assert (index.placement, index.can_filter, index.is_exact) == (
        "cuda: 2 replicas: FAISS IndexFlat, float16", False, False,
    )  # fmt: skip
    assert like_gpu[0].calls == [opening.CHECK_QUERIES]
    assert (index.search(items[:3], 5).rows[:, 0] == [0, 1, 2]).all()
    assert like_gpu[0].calls == [opening.CHECK_QUERIES, 3]
    FaissIndex.build(items, "IVF8,SQ8").write(tmp_path / "index.faiss")
    opened = open_index(tmp_path / "index.faiss", items, factory="IVF8,SQ8", device="cuda")
    assert opened.placement == "cuda: 2 replicas: FAISS IndexIVFScalarQuantizer"


def test_a_copy_that_answers_something_else_is_refused(
    like_gpu: list[LikeGpu], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "on_gpus", lambda faiss, source, n_gpus, *, shard: LikeGpu(vectors(seed=9)))
    with pytest.raises(BadConfig, match=r"float16: finds \d+% of what the same index finds on the CPU; use device=cpu"):
        open_index(tmp_path / "none", vectors(), factory="Flat", device="cuda")


def test_a_large_index_is_shared_out_among_the_gpus(like_gpu: list[LikeGpu], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MAX_REPLICATED", 1_000)
    assert build_index(vectors(100), "Flat").placement == "cuda: 2 shards: FAISS IndexFlat, float16"


@pytest.mark.parametrize("shard", [True, False])
def test_faiss_is_told_to_store_float16_and_to_keep_cuvs_out(shard: bool) -> None:
    told: dict[str, Any] = {}
    options = SimpleNamespace()
    fake = ModuleType("faiss")
    fake.__dict__.update(
        GpuMultipleClonerOptions=lambda: options,
        index_cpu_to_all_gpus=lambda index, co, ngpu: told.update(index=index, co=co, ngpu=ngpu),
    )
    on_gpus(fake, "source", 3, shard=shard)
    assert told == {"index": "source", "co": options, "ngpu": 3}
    assert vars(options) == {"useFloat16": True, "use_cuvs": False, "shard": shard}


ITEMS = vectors(400, 8)


def on_device() -> VectorIndex:
    """A device's index, guarded; few rows are asked of it and not scored exactly instead."""
    backend = GpuIndex(lambda: LikeGpu(ITEMS), size=len(ITEMS), dim=8, surplus=1.0, placement="")
    return GuardedIndex(backend, ITEMS, exact_rows=0)


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 60), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_filters_over_a_device_that_ignores_them_are_exact(seed: int, share: float, k: int, excluding: bool) -> None:
    rng = np.random.default_rng(seed)
    queries, allowed = vectors(4, 8, seed), rng.random(len(ITEMS)) < share
    exclude = CSR.from_lists([rng.choice(400, 20, replace=False) for _ in range(4)]) if excluding else None
    found = on_device().search(queries, k, allowed=allowed, exclude=exclude)
    expected = exact_topk(queries, ITEMS, k, allowed=allowed, exclude=exclude)
    assert ((found.rows >= 0) == (expected.rows >= 0)).all()
    assert allowed[found.rows[found.rows >= 0]].all()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_deletions_and_changes_are_tombstones_over_a_device_that_cannot_remove() -> None:
    rows = np.arange(0, 400, 3)
    changed = vectors(20, 8, seed=3)
    names = pa.table({"item_id": [f"i{row}" for row in range(400)]})
    upserts = Upserts(names.slice(0, 20), changed, changed[:, :0], np.zeros((20, 2), np.uint64))
    base = Delta.empty(names, ITEMS, ITEMS[:, :0])
    after = base.with_segment(Segment(1, "", upserts, ()), np.arange(1, 21), np.empty(0, np.int64))
    delta = replace(after, deleted=np.isin(np.arange(400), rows))
    merged = ITEMS.copy()
    merged[1:21] = changed
    for seed, k in ((5, 10), (6, 100)):
        queries = vectors(5, 8, seed)
        found = delta.search(on_device(), queries, k)
        expected = exact_topk(queries, merged, k, allowed=~delta.deleted)
        assert (found.rows == expected.rows).all()
        assert not np.isin(found.rows, rows).any()


def test_more_hits_than_the_device_selects_are_found_exactly(like_gpu: list[LikeGpu]) -> None:
    items = vectors(3_000)
    hits = build_index(items, "Flat").search(items[:2], MAX_K + 1)
    assert (hits.rows == exact_topk(items[:2], items, MAX_K + 1).rows).all()


@pytest.mark.gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat", "IVF32,SQ8"])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
def test_a_gpu_index_answers_whole_and_well(factory: str, share: float) -> None:
    items, queries = vectors(), vectors(20, seed=1)
    index = build_index(items, factory, device="cuda")
    assert index.placement.startswith("cuda:0: FAISS Index")
    allowed = np.random.default_rng(2).random(len(items)) < share
    exclude = CSR.from_lists([[i] for i in range(20)])
    hits = index.search(queries, 10, allowed=allowed, exclude=exclude)
    truth = exact_topk(queries, items, 10, allowed=allowed, exclude=exclude)
    assert allowed[hits.rows].all()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.rows, truth.rows, strict=True)]) >= 0.9


@pytest.mark.gpu
def test_a_gpu_index_refuses_a_filter_and_answers_more_than_the_device_selects() -> None:
    items = vectors()
    backend = GpuIndex.copy(FaissIndex.build(items, "Flat"))
    with pytest.raises(ValueError, match="cannot filter"):
        backend.search(items[:1], 5, allowed=np.ones(len(items), bool))
    hits = GuardedIndex(backend, items).search(items[:2], 2_500)
    assert (hits.rows >= 0).all()


@pytest.mark.gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat", "IVF32,SQ8"])
def test_threads_search_gpu_indexes_that_come_and_go(factory: str) -> None:
    items = vectors()
    live = [build_index(items, factory, device="cuda")]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            asked = [pool.submit(live[-1].search, items[row : row + 1], 5) for row in range(64)]
            live.append(build_index(items, factory, device="cuda"))
            live.pop(0)
            assert np.mean([one.result().rows[0, 0] == row for row, one in enumerate(asked)]) >= 0.9
            del asked


@pytest.mark.gpu
@pytest.mark.parametrize("shard", [True, False])
def test_an_index_is_spread_over_every_gpu(shard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if import_faiss().get_num_gpus() < 2:
        pytest.skip("there is one GPU")
    monkeypatch.setattr(gpu, "MAX_REPLICATED", 0 if shard else gpu.MAX_REPLICATED)
    items = vectors()
    index = build_index(items, "Flat", device="cuda")
    assert ("shards" if shard else "replicas") in index.placement
    assert (index.search(items[:20], 5).rows[:, 0] == np.arange(20)).all()
