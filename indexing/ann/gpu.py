"""FAISS on CUDA devices, where `faiss-gpu` is installed and a GPU is visible.

The limits of GPU indexes without cuVS, and what is done about each: they ignore selectors silently, so `can_filter` is
False and `GuardedIndex` filters the hits; they have no `remove_ids`, so deletions are tombstones
(`indexing.version.delta`); they return at most 2,048 hits a query; they are not safe for concurrent readers, and
freeing one while another loads has crashed, so one thread owns all devices (`indexing.ann.gpu_thread`). cuVS is
switched off where the installed FAISS has it, so that this holds for every build. See
https://github.com/facebookresearch/faiss/wiki/Faiss-on-the-GPU.

A new release replaces the live one in this order: it is loaded, checked (`indexing.ann.opening.checked_copy`) and
searched; pending searches of the old one are answered, and it is freed. The owning thread does all of that.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from indexing.ann.faiss_index import FaissIndex, import_faiss
from indexing.ann.gpu_thread import Dispatcher
from retrieval.errors import BadConfig, MissingDependency
from retrieval.topk import Hits, Mask, Vectors

Spread: TypeAlias = Literal["one", "replicas", "shards"]

MAX_K = 2_048  # getMaxKSelection() of faiss-gpu: the most hits a query, and the most cells that a search visits
MAX_REPLICATED = 8 << 30  # bytes: up to here each of several GPUs holds the whole index, above a shard of it
INSTALL = 'pip uninstall faiss-cpu && pip install "shortlist[gpu]"'
_ON_GPU = re.compile(r"Flat|IVF\d+,(Flat|SQ8|SQ4|SQfp16|PQ\d+)")


class DeviceChoice(NamedTuple):
    """The device that was chosen, and the reason in words."""

    device: Literal["cpu", "cuda"]
    why: str


def choose_device(device: str, factory: str, faiss: ModuleType | None = None) -> DeviceChoice:
    """The device for an index of kind `factory`; `device` is auto, cpu or cuda.

    `auto` takes a GPU where one is visible, FAISS supports it and the kind has a GPU form. Raises MissingDependency
    where `cuda` was given and no GPU can be used, BadConfig where the kind has no GPU form.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BadConfig(f"device is {device!r}; use auto, cpu or cuda")
    if device == "cpu":
        return DeviceChoice("cpu", "as set")
    obstacle, fits = cuda_obstacle(faiss), runs_on_gpu(factory)
    if device == "cuda" and obstacle is not None:
        raise MissingDependency(f"device is cuda, but {obstacle}; run: {INSTALL}, or use device=auto")
    if device == "cuda" and not fits:
        raise BadConfig(
            f"index kind {factory!r} does not run on a GPU; use Flat, IVF1024,SQ8 or the like, or device=cpu"
        )
    if obstacle is not None or not fits:
        return DeviceChoice("cpu", obstacle or f"{factory} does not run on a GPU")
    return DeviceChoice("cuda", "a GPU is present")


def runs_on_gpu(factory: str) -> bool:
    """Whether that kind of index has a GPU form.

    >>> runs_on_gpu("IVF1024,SQ8"), runs_on_gpu("HNSW32")
    (True, False)
    """
    return _ON_GPU.fullmatch(factory) is not None


def cuda_obstacle(faiss: ModuleType | None = None) -> str | None:
    """Why FAISS cannot use a GPU here; None where it can."""
    try:
        faiss = faiss or import_faiss()
    except MissingDependency:
        return "FAISS is not installed"
    if not hasattr(faiss, "StandardGpuResources"):
        return "the installed FAISS has no GPU support"
    return None if faiss.get_num_gpus() > 0 else "no CUDA device is visible"


class OnDevice:
    """A FAISS index on the device, as `Dispatcher` searches it."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def search(self, queries: Vectors, k: int) -> Hits:
        """The k best rows of each query float32 [n, dim]; missing hits are row -1 with score -inf."""
        scores, rows = self.index.search(queries, k)
        return Hits(rows, np.where(rows < 0, np.float32(-np.inf), scores))


class GpuIndex:
    """A Backend over the index that `load` puts on the device; the device's own thread calls `load` and searches.

    That thread frees the index once nothing refers to this object any more, thus after its last search was answered.
    `placement` says on which devices it is and how it is stored.
    """

    is_exact = False  # float16 rounds
    can_filter = False

    def __init__(
        self,
        load: Callable[[], Any],
        *,
        size: int,
        dim: int,
        surplus: float,
        placement: str,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self._dispatcher = dispatcher or _shared_dispatcher()
        self._slot = self._dispatcher.make(lambda: OnDevice(load()))
        self.size, self.dim, self.surplus, self.placement = size, dim, surplus, placement
        weakref.finalize(self, self._dispatcher.free, self._slot).atexit = False

    @classmethod
    def copy(cls, index: FaissIndex) -> GpuIndex:
        """A copy of a FAISS index on every GPU that is visible: the whole index on each, or a shard on each where it is
        large.

        It keeps the search parameters that `index` has now. A flat index is stored in float16, others unchanged.
        """
        faiss, source = import_faiss(), index.raw
        n_gpus, flat = int(faiss.get_num_gpus()), isinstance(source, faiss.IndexFlat)
        spread = spread_of(n_gpus, index.size * index.dim * (2 if flat else 4))
        if isinstance(source, faiss.IndexIVF):
            source.nprobe = min(index.params.nprobe, int(source.nlist), MAX_K)
        where = "cuda:0" if spread == "one" else f"cuda: {n_gpus} {spread}"
        stored = ", float16" if flat else ""
        return cls(
            lambda: on_gpus(faiss, source, n_gpus, shard=spread == "shards"),
            size=index.size,
            dim=index.dim,
            surplus=index.surplus,
            placement=f"{where}: FAISS {type(source).__name__}{stored}",
        )

    @property
    def max_k(self) -> int:
        """The most hits of one query."""
        return min(MAX_K, self.size)

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See Backend; `allowed` must be None."""
        if allowed is not None:
            raise ValueError("a GPU index cannot filter: pass allowed=None and filter the hits")
        return self._dispatcher.search(self._slot, queries, k)


def spread_of(n_gpus: int, size: int) -> Spread:
    """How an index of at most `size` bytes is spread over `n_gpus` GPUs.

    >>> spread_of(1, 1 << 40), spread_of(4, 1 << 30), spread_of(4, 1 << 40)
    ('one', 'replicas', 'shards')
    """
    if n_gpus == 1:
        return "one"
    return "replicas" if size <= MAX_REPLICATED else "shards"


def on_gpus(faiss: ModuleType, source: Any, n_gpus: int, *, shard: bool) -> Any:
    """Copy a FAISS index to the first `n_gpus` GPUs: a shard to each, or the whole index to each."""
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16 = True
    options.use_cuvs = False
    options.shard = shard
    return faiss.index_cpu_to_all_gpus(source, co=options, ngpu=n_gpus)


@cache
def _shared_dispatcher() -> Dispatcher:
    """The dispatcher that all GPU indexes of this process share."""
    return Dispatcher()
