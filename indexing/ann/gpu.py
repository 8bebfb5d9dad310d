"""FAISS on CUDA devices, where `faiss-gpu` is installed and a GPU is there.

Known of GPU indexes without cuVS, and so designed for: they ignore selectors silently, hence `can_filter` is False and
`GuardedIndex` filters the hits; they have no `remove_ids`, hence deletions are tombstones of `indexing.delta`; they
answer at most 2,048 hits a query; they are not safe for concurrent readers, and freeing one while another is loaded has
crashed, hence one thread owns all devices (`indexing.dispatch`). cuVS is switched off where the installed FAISS has it,
so that all of this holds of any build. See https://github.com/facebookresearch/faiss/wiki/Faiss-on-the-GPU.

Another release takes the place of one in this order: it is loaded, tried (`indexing.opening`), answered from; what was
asked of the one before is answered, and it is freed. All but the third is done by the thread that owns the devices.
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

MAX_K = 2_048  # getMaxKSelection() of faiss-gpu, also the most cells that one search visits
REPLICATED = 8 << 30  # bytes: up to here each of several GPUs holds the whole index, above each its share
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
    obstacle, fits = cuda_obstacle(faiss), runs_on_gpu(factory)
    if device == "cuda" and obstacle is not None:
        raise MissingDependency(f"device is cuda, but {obstacle}; run: {INSTALL}, or use device=auto")
    if device == "cuda" and not fits:
        raise BadConfig(
            f"index kind {factory!r} does not run on a GPU; use Flat, IVF1024,SQ8 or the like, or device=cpu"
        )
    if obstacle is not None or not fits:
        return Choice("cpu", obstacle or f"{factory} does not run on a GPU")
    return Choice("cuda", "a GPU is present")


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
    """What `Dispatcher` searches: a FAISS index, whatever holds it."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def search(self, queries: Vectors, k: int) -> Hits:
        """The k best rows of each query; row -1 has the score -inf."""
        scores, rows = self.index.search(queries, k)
        return Hits(rows, np.where(rows < 0, np.float32(-np.inf), scores))


class GpuIndex:
    """A Backend over what `load` puts on the device, called by the thread that owns it.

    What it loaded is freed by that thread when nobody refers to this object any more, thus after the last search of it
    has been answered. `placement` says where it runs and how it is stored.
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
        self._dispatcher = dispatcher or _owner()
        self._slot = self._dispatcher.make(lambda: OnDevice(load()))
        self.size, self.dim, self.surplus, self.placement = size, dim, surplus, placement
        weakref.finalize(self, self._dispatcher.free, self._slot).atexit = False

    @classmethod
    def copy(cls, index: FaissIndex) -> GpuIndex:
        """A copy of a FAISS index on every GPU that is visible: whole on each, or a share on each where it is large.

        The effort is that of the index now. A flat index is stored in float16, others as they are.
        """
        faiss, source = import_faiss(), index.raw
        n_gpus, flat = int(faiss.get_num_gpus()), isinstance(source, faiss.IndexFlat)
        spread = spread_of(n_gpus, index.size * index.dim * (2 if flat else 4))
        if isinstance(source, faiss.IndexIVF):
            source.nprobe = min(index.effort.nprobe, int(source.nlist), MAX_K)
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
        """What the device selects at most."""
        return min(MAX_K, self.size)

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See Backend; `allowed` must be None."""
        if allowed is not None:
            raise ValueError("a GPU index cannot filter: pass allowed=None and filter the hits")
        return self._dispatcher.search(self._slot, queries, k)


def spread_of(n_gpus: int, size: int) -> Spread:
    """How an index of so many bytes at most lies on so many GPUs.

    >>> spread_of(1, 1 << 40), spread_of(4, 1 << 30), spread_of(4, 1 << 40)
    ('one', 'replicas', 'shards')
    """
    if n_gpus == 1:
        return "one"
    return "replicas" if size <= REPLICATED else "shards"


def on_gpus(faiss: ModuleType, source: Any, n_gpus: int, *, shard: bool) -> Any:
    """A FAISS index on the first so many GPUs: a share on each, or all of it."""
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16 = True
    options.use_cuvs = False
    options.shard = shard
    return faiss.index_cpu_to_all_gpus(source, co=options, ngpu=n_gpus)


@cache
def _owner() -> Dispatcher:
    """The one that all GPU indexes of this process share."""
    return Dispatcher()
