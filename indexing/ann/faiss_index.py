"""FAISS on the CPU: an index is built by factory string, and every search passes its parameters explicitly.

Written against faiss 1.15, whose behaviour it relies on: the selector of a refined index goes into the parameters of
its base (in its own it is ignored); a graph obeys a selector only with a bounded queue; product quantisers without an
inverted file take no selector; missing hits are row -1 with an arbitrary score. `FILTERING` lists the classes that the
contract test found to obey a selector; the documentation is not reliable there.
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
MIN_TRAIN = 65_536  # rows to train on, or all rows where there are fewer
TRAIN_PER_CELL = 64  # training rows for each cell of an inverted file, where that is more
MAX_WIDENING = 512.0  # the largest factor by which a filter multiplies the search parameters
FILTERING = frozenset(
    f"Index{name}"
    for name in (
        "Flat", "ScalarQuantizer", "RaBitQ", "HNSWFlat", "HNSWSQ", "HNSWPQ", "IVFFlat", "IVFScalarQuantizer", "IVFPQ",
        "IVFPQFastScan", "IVFRaBitQ", "IVFRaBitQFastScan",
    )
)  # classes that obey a selector; others refuse one or were not tested  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """FAISS's search parameters: higher values find more and take longer. Each kind of index reads only its own.

    Under a filter, an index searches with its parameters times `filtered` over the share of rows that are allowed.
    """

    nprobe: int = 64  # cells visited (IVF)
    ef_search: int = 256  # length of the candidate queue (HNSW)
    k_factor: float = 4.0  # hits of the compressed search that are scored again, as a multiple of k
    filtered: float = 1.0

    def widened(self, factor: float) -> SearchParams:
        """These parameters times a factor; `filtered` stays."""
        return replace(
            self,
            nprobe=round(self.nprobe * factor),
            ef_search=round(self.ef_search * factor),
            k_factor=self.k_factor * factor,
        )

    def below(self, other: SearchParams) -> bool:
        """Whether these differ from the others and none of them is higher."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return self != other and all(own <= others for own, others in pairs)

    def halfway(self, other: SearchParams) -> SearchParams:
        """The geometric mean of both.

        >>> SearchParams(nprobe=4).halfway(SearchParams(nprobe=16)).nprobe
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
    """A Backend over a FAISS index of inner products in main memory. Safe to search from many threads."""

    def __init__(self, index: Any, params: SearchParams) -> None:
        self._faiss = import_faiss()
        self._owner = index  # a downcast view does not keep the index alive
        self._index = self._faiss.downcast_index(index)
        self._params = params

    @classmethod
    def build(cls, vectors: Vectors, factory: str, *, params: SearchParams | None = None, seed: int = 0) -> FaissIndex:
        """Train an index on vectors float32 [n, dim] and add them all, reading them in blocks.

        Raises BadConfig where FAISS does not know the factory string, or has too few vectors to train it on.
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
        return cls(index, params or SearchParams())

    @classmethod
    def read(cls, path: Path, params: SearchParams) -> FaissIndex:
        """Read an index in FAISS's own file format; raises CorruptBundle where the file is missing, cut short or
        damaged."""
        try:
            return cls(import_faiss().read_index(str(path)), params)
        except RuntimeError as error:
            raise CorruptBundle(
                f"{path} cannot be read ({_reason(error)}); restore it or build the index again"
            ) from error

    def write(self, path: Path) -> None:
        """Write the index in FAISS's own file format; raises OSError where the disk refuses."""
        with path.open("wb") as file:
            self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(file.write))

    @property
    def raw(self) -> Any:
        """The FAISS index itself."""
        return self._index

    @property
    def params(self) -> SearchParams:
        """The parameters of a search without a filter."""
        return self._params

    def with_params(self, params: SearchParams) -> FaissIndex:
        """The same index, searched with other parameters; nothing is copied."""
        return FaissIndex(self._owner, params)

    @property
    def is_exact(self) -> bool:
        """Whether it is a flat index."""
        return isinstance(self._index, self._faiss.IndexFlat)

    @property
    def can_filter(self) -> bool:
        """Whether its innermost index is of a class that obeys a selector, see `FILTERING`."""
        return type(_innermost(self._faiss, self._index)).__name__ in FILTERING

    @property
    def nbytes(self) -> int:
        """The length of its file in bytes, which is about its size in memory."""
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
        """A search may ask for all rows."""
        return self.size

    @property
    def surplus(self) -> float:
        """`k_factor` where codes have a few bits and the index does not score its hits again itself, else 1."""
        return self._params.k_factor if _is_coarse(self._faiss, self._index) else 1.0

    @property
    def placement(self) -> str:
        """The device, and the FAISS class."""
        return f"cpu: FAISS {type(self._index).__name__}"

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See Backend. Raises ValueError where `allowed` is given and `can_filter` is False."""
        if allowed is not None and not self.can_filter:
            raise ValueError(f"{type(self._index).__name__} cannot filter: pass allowed=None and filter the hits")
        params, selector = self._params, None
        if allowed is not None:
            share = max(int(np.count_nonzero(allowed)), 1) / max(len(allowed), 1)
            params = params.widened(min(params.filtered / share, MAX_WIDENING))
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
        parameters = search_parameters(self._faiss, self._index, params, selector)
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)
        return Hits(rows, np.where(rows < 0, np.float32(-np.inf), scores))


def search_parameters(faiss: ModuleType, index: Any, params: SearchParams, selector: Any) -> Any:
    """The FAISS parameters of one search; `selector` is a FAISS IDSelector, or None for no filter."""
    own = {} if selector is None else {"sel": selector}
    if isinstance(index, faiss.IndexRefine):
        base = search_parameters(faiss, faiss.downcast_index(index.base_index), params, selector)
        inner = {} if base is None else {"base_index_params": base}
        return faiss.IndexRefineSearchParameters(k_factor=params.k_factor, **inner)
    if isinstance(index, faiss.IndexPreTransform):
        base = search_parameters(faiss, faiss.downcast_index(index.index), params, selector)
        return None if base is None else faiss.SearchParametersPreTransform(index_params=base)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=min(params.nprobe, int(index.nlist)), **own)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=params.ef_search, bounded_queue=True, **own)
    return faiss.SearchParameters(**own) if own else None


def _innermost(faiss: ModuleType, index: Any) -> Any:
    """The index that does the search: below any refinement and any transformation of vectors."""
    if isinstance(index, faiss.IndexRefine):
        return _innermost(faiss, faiss.downcast_index(index.base_index))
    if isinstance(index, faiss.IndexPreTransform):
        return _innermost(faiss, faiss.downcast_index(index.index))
    return index


def _is_coarse(faiss: ModuleType, index: Any) -> bool:
    """Whether codes have a few bits a dimension, so that their scores order hits badly."""
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
    """Seed the clusterings of an index and silence their warning of few training points; recall is measured anyway.

    Polysemous codes, which PQ trains by default and which take most of its time, are not used here.
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
    """FAISS's message without its source position and the failed condition."""
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: '.*?' failed: ?)?", "", " ".join(str(error).split()))
