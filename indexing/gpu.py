"""FAISS on a CUDA device, where `faiss-gpu` is installed and a GPU is there.

Known of GPU indexes without cuVS, and so designed for: they ignore selectors silently, hence `can_filter` is False and
`GuardedIndex` filters the hits; they answer at most 2,048 hits a query; they are not safe for concurrent readers, hence
one lock around the device. See https://github.com/facebookresearch/faiss/wiki/Faiss-on-the-GPU.
"""

from __future__ import annotations

import re
import threading
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from indexing.faiss_index import FaissIndex, import_faiss
from retrieval.errors import BadConfig, MissingDependency
from retrieval.topk import Hits, Mask, Vectors

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

MAX_K = 2_048  # getMaxKSelection() of faiss-gpu, also the most cells that one search visits
INSTALL = 'pip uninstall faiss-cpu && pip install "shortlist[gpu]"'
_ON_GPU = re.compile(r"Flat|IVF\d+,(Flat|SQ8|SQ4|SQfp16|PQ\d+)")


class Choice(NamedTuple):
    """The device taken, and why: one line to print."""

    device: Literal["cpu", "cuda"]
    why: str


def choose_device(device: str, factory: str, faiss: ModuleType | None = None) -> Choice:
    """Where an index of that kind runs. `auto` takes a GPU where FAISS supports it, one is there and the kind fits.

    MissingDependency where `cuda` is asked for and cannot be had, BadConfig where the kind has no GPU form.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BadConfig(f"device is {device!r}; use auto, cpu or cuda")
    if device == "cpu":
        return Choice("cpu", "as asked")
    obstacle = cuda_obstacle(faiss)
    fits = _ON_GPU.fullmatch(factory) is not None
    if device == "cuda" and obstacle is not None:
        raise MissingDependency(f"device is cuda, but {obstacle}; run: {INSTALL}, or use device=auto")
    if device == "cuda" and not fits:
        raise BadConfig(
            f"index kind {factory!r} does not run on a GPU; use Flat, IVF1024,SQ8 or the like, or device=cpu"
        )
    if obstacle is not None or not fits:
        return Choice("cpu", obstacle or f"{factory} does not run on a GPU")
    return Choice("cuda", "a GPU is present")


def cuda_obstacle(faiss: ModuleType | None = None) -> str | None:
    """Why FAISS cannot use a GPU here; None where it can."""
    try:
        faiss = faiss or import_faiss()
    except MissingDependency:
        return "FAISS is not installed"
    if not hasattr(faiss, "StandardGpuResources"):
        return "the installed FAISS has no GPU support"
    return None if faiss.get_num_gpus() > 0 else "no CUDA device is visible"


class GpuIndex:
    """A Backend over a copy of a FAISS index on one GPU. The effort is that of the index at the time of the copy."""

    is_exact = False  # float16 storage rounds
    can_filter = False

    def __init__(self, index: FaissIndex, *, gpu: int = 0, float16: bool = True) -> None:
        faiss = import_faiss()
        source = index.raw
        if isinstance(source, faiss.IndexIVF):
            source.nprobe = min(index.effort.nprobe, int(source.nlist), MAX_K)
        options = faiss.GpuClonerOptions()
        options.useFloat16 = float16
        self._resources = faiss.StandardGpuResources()  # must live as long as the index
        self._index: Any = faiss.index_cpu_to_gpu(self._resources, gpu, source, options)
        self._lock = threading.Lock()
        self._gpu = gpu
        self._surplus = index.surplus
        self._float16 = float16

    @property
    def size(self) -> int:
        """The number of rows."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return int(self._index.d)

    @property
    def max_k(self) -> int:
        """What the device selects at most."""
        return min(MAX_K, self.size)

    @property
    def surplus(self) -> float:
        """That of the index that was copied."""
        return self._surplus

    @property
    def placement(self) -> str:
        """The device and the storage."""
        return f"cuda:{self._gpu}: FAISS {type(self._index).__name__}, {'float16' if self._float16 else 'float32'}"

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See Backend; `allowed` must be None."""
        if allowed is not None:
            raise ValueError("a GPU index cannot filter: pass allowed=None and filter the hits")
        with self._lock:
            scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return Hits(rows, np.where(rows < 0, np.float32(-np.inf), scores))
