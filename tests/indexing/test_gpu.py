"""Where an index runs, and the real thing on a GPU where there is one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from indexing.faiss_index import FaissIndex
from indexing.gpu import GpuIndex, choose_device
from indexing.guarded import GuardedIndex
from indexing.opening import build_index, open_index
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
        ("cpu", "Flat", 1, "cpu", "as asked"),
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


@pytest.mark.gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat", "IVF32,SQ8"])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
def test_a_gpu_index_answers_whole_and_well(factory: str, share: float) -> None:
    items, queries = vectors(), vectors(20, seed=1)
    index = build_index(items, factory, device="cuda")
    assert index.placement.startswith("cuda:0: FAISS GpuIndex")
    allowed = np.random.default_rng(2).random(len(items)) < share
    exclude = CSR.from_lists([[i] for i in range(20)])
    hits = index.search(queries, 10, allowed=allowed, exclude=exclude)
    truth = exact_topk(queries, items, 10, allowed=allowed, exclude=exclude)
    assert allowed[hits.rows].all()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.rows, truth.rows, strict=True)]) >= 0.9


@pytest.mark.gpu
def test_a_gpu_index_refuses_a_filter_and_answers_more_than_the_device_selects() -> None:
    items = vectors()
    backend = GpuIndex(FaissIndex.build(items, "Flat"))
    with pytest.raises(ValueError, match="cannot filter"):
        backend.search(items[:1], 5, allowed=np.ones(len(items), bool))
    hits = GuardedIndex(backend, items).search(items[:2], 2_500)
    assert (hits.rows >= 0).all()
