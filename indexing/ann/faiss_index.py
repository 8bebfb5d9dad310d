"""FAISS on the CPU, by factory string, with the search parameters of every call written out.

Written against faiss 1.15. Known there and kept to here: the selector of a refined index goes into the parameters of
its base (in its own it is ignored); a graph obeys the selector only with a bounded queue; product quantisers without
cells take no selector at all; empty places hold row -1 and any score. Which kinds obey a selector is not taken from
their documentation: `FILTERING` holds those that the contract test saw obeying one.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from retrieval.errors import BadConfig, CorruptBundle, MissingDependency
from retrieval.topk import Hits, Mask, Rows, Vectors

ADD_BLOCK = 65_536  # rows read from the memory map and added at a time
MIN_TRAIN = 65_536  # rows to train on at least, where there are as many
TRAIN_PER_CELL = 64  # and so many for each cell of an inverted file
WIDEST = 512.0  # a filter multiplies the effort at most by this
FILTERING = frozenset(
    f"Index{name}"
    for name in (
        "Flat", "ScalarQuantizer", "RaBitQ", "HNSWFlat", "HNSWSQ", "HNSWPQ", "IVFFlat", "IVFScalarQuantizer", "IVFPQ",
        "IVFPQFastScan", "IVFRaBitQ", "IVFRaBitQFastScan",
    )
)  # classes that obey a selector; others refuse it or are not known  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard an approximate index searches; a kind of index reads only what concerns it."""

    nprobe: int = 64  # cells visited (IVF)
    ef_search: int = 256  # length of the queue (HNSW)
    k_factor: float = 4.0  # hits of the compressed search that are refined, as a multiple of k
    filtered: float = 1.0  # under a filter, what the kind reads of these times this over the share of rows allowed

    def widened(self, factor: float) -> Effort:
        """The same effort times a factor."""
        return replace(
            self,
            nprobe=round(self.nprobe * factor),
            ef_search=round(self.ef_search * factor),
            k_factor=self.k_factor * factor,
        )

    def below(self, other: Effort) -> bool:
        """Whether it is another effort and nowhere higher."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return self != other and all(own <= others for own, others in pairs)

    def halfway(self, other: Effort) -> Effort:
        """The effort between the two, by ratio.

        >>> Effort(nprobe=4).halfway(Effort(nprobe=16)).nprobe
        8
        """
        return replace(
            self,
            nprobe=round(math.sqrt(self.nprobe * other.nprobe)),
            ef_search=round(math.sqrt(self.ef_search * other.ef_search)),
            k_factor=math.sqrt(self.k_factor * other.k_factor),
        )


def import_faiss() -> ModuleType:
    """The faiss module; MissingDependency says what to install."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingDependency('an approximate index needs FAISS; run: pip install "shortlist[cpu]"') from error


class FaissIndex:
    """A Backend over a FAISS index of inner products in main memory."""

    def __init__(self, index: Any, effort: Effort) -> None:
        self._faiss = import_faiss()
        self._owner = index  # a downcast view does not keep the index alive
        self._index = self._faiss.downcast_index(index)
        self._effort = effort

    @classmethod
    def build(cls, vectors: Vectors, factory: str, *, effort: Effort | None = None, seed: int = 0) -> FaissIndex:
        """Train and fill an index from vectors float32 [n, dim], read in blocks.

        BadConfig where FAISS does not know the factory string, or where there are too few vectors to train it.
        """
        faiss = import_faiss()
        try:
            index = faiss.index_factory(int(vectors.shape[1]), factory, faiss.METRIC_INNER_PRODUCT)
            _prepare(faiss, index, seed)
            if not index.is_trained:
                index.train(_training_rows(faiss, index, vectors, seed))
            for start in range(0, len(vectors), ADD_BLOCK):
                index.add(np.ascontiguousarray(vectors[start : start + ADD_BLOCK], np.float32))
        except RuntimeError as error:
            raise BadConfig(
                f"index kind {factory!r} cannot be built over {vectors.shape[0]} vectors of {vectors.shape[1]} "
                f"dimensions ({_reason(error)}); use another, such as Flat or HNSW32_SQ8"
            ) from error
        return cls(index, effort or Effort())

    @classmethod
    def read(cls, path: Path, effort: Effort) -> FaissIndex:
        """An index from FAISS's own file format; CorruptBundle where it is not whole."""
        try:
            return cls(import_faiss().read_index(str(path)), effort)
        except RuntimeError as error:
            raise CorruptBundle(
                f"{path} cannot be read ({_reason(error)}); restore it or build the index again"
            ) from error

    def write(self, path: Path) -> None:
        """Write FAISS's own file format; OSError where the disk refuses."""
        with path.open("wb") as file:
            self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(file.write))

    @property
    def raw(self) -> Any:
        """The FAISS index itself."""
        return self._index

    @property
    def effort(self) -> Effort:
        """How hard it searches."""
        return self._effort

    def with_effort(self, effort: Effort) -> FaissIndex:
        """The same index searched with another effort; nothing is copied."""
        return FaissIndex(self._owner, effort)

    @property
    def is_exact(self) -> bool:
        """True of a flat index alone."""
        return isinstance(self._index, self._faiss.IndexFlat)

    @property
    def can_filter(self) -> bool:
        """Whether what searches in the end is of a class that obeys a selector, see `FILTERING`."""
        return type(_innermost(self._faiss, self._index)).__name__ in FILTERING

    @property
    def nbytes(self) -> int:
        """What it holds: the length of its file, which is about its size in memory."""
        length = 0

        def count(part: bytes) -> int:
            nonlocal length
            length += len(part)
            return len(part)

        self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(count))
        return length

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
        """All rows."""
        return self.size

    @property
    def surplus(self) -> float:
        """The effort's k_factor for codes of a few bits that are not refined in the index, 1 for others."""
        return self._effort.k_factor if _is_coarse(self._faiss, self._index) else 1.0

    @property
    def placement(self) -> str:
        """Where it runs."""
        return f"cpu: FAISS {type(self._index).__name__}"

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See Backend. ValueError where `allowed` is given and `can_filter` is False."""
        if allowed is not None and not self.can_filter:
            raise ValueError(f"{type(self._index).__name__} cannot filter: pass allowed=None and filter the hits")
        effort, selector = self._effort, None
        if allowed is not None:
            share = max(int(np.count_nonzero(allowed)), 1) / max(len(allowed), 1)
            effort = effort.widened(min(effort.filtered / share, WIDEST))
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
        parameters = search_parameters(self._faiss, self._index, effort, selector)
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)
        return Hits(rows, np.where(rows < 0, np.float32(-np.inf), scores))


def search_parameters(faiss: ModuleType, index: Any, effort: Effort, selector: Any) -> Any:
    """What a search of a FAISS index is given: its effort, and a selector (or None) where the index obeys one."""
    own = {} if selector is None else {"sel": selector}
    if isinstance(index, faiss.IndexRefine):
        base = search_parameters(faiss, faiss.downcast_index(index.base_index), effort, selector)
        inner = {} if base is None else {"base_index_params": base}
        return faiss.IndexRefineSearchParameters(k_factor=effort.k_factor, **inner)
    if isinstance(index, faiss.IndexPreTransform):
        base = search_parameters(faiss, faiss.downcast_index(index.index), effort, selector)
        return None if base is None else faiss.SearchParametersPreTransform(index_params=base)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=min(effort.nprobe, int(index.nlist)), **own)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=effort.ef_search, bounded_queue=True, **own)
    return faiss.SearchParameters(**own) if own else None


def _innermost(faiss: ModuleType, index: Any) -> Any:
    """What an index searches in the end: the base of what refines it, the index behind a transformation."""
    if isinstance(index, faiss.IndexRefine):
        return _innermost(faiss, faiss.downcast_index(index.base_index))
    if isinstance(index, faiss.IndexPreTransform):
        return _innermost(faiss, faiss.downcast_index(index.index))
    return index


def _is_coarse(faiss: ModuleType, index: Any) -> bool:
    if isinstance(index, faiss.IndexPreTransform):
        return _is_coarse(faiss, faiss.downcast_index(index.index))
    name = type(index).__name__
    return "PQ" in name or "RaBitQ" in name


def _training_rows(faiss: ModuleType, index: Any, vectors: Vectors, seed: int) -> Vectors:
    cells = int(getattr(faiss.try_extract_index_ivf(index), "nlist", 0))
    wanted = max(MIN_TRAIN, TRAIN_PER_CELL * cells)
    if wanted >= len(vectors):
        return np.ascontiguousarray(vectors, np.float32)
    rows: Rows = np.sort(np.random.default_rng(seed).choice(len(vectors), wanted, replace=False))
    return np.ascontiguousarray(vectors[rows], np.float32)


def _prepare(faiss: ModuleType, index: Any, seed: int) -> None:
    """Seed the clusterings of an index, and let them train on few points without a word: recall is measured after.

    Polysemous codes, which PQ trains unless told not to and which take most of its time, are not used here.
    """
    index = faiss.downcast_index(index)
    if hasattr(index, "do_polysemous_training"):
        index.do_polysemous_training = False
    for wrapped in ("base_index", "index"):
        if hasattr(index, wrapped):
            _prepare(faiss, getattr(index, wrapped), seed)
    clusterings = [owner.cp for owner in (index, getattr(index, "pq", index)) if hasattr(owner, "cp")]
    for clustering in clusterings:
        clustering.seed = seed
        clustering.min_points_per_centroid = 1


def _reason(error: RuntimeError) -> str:
    """FAISS's message without the place in its source and the condition that failed."""
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: '.*?' failed: ?)?", "", " ".join(str(error).split()))
