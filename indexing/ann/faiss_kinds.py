"""The kinds of index that are tried over a catalogue, and what each should take before it is built.

Every kind is searched through `GuardedIndex`, which scores hits again with the exact vectors from their file, so that
an index of a few bits a dimension needs no copy of the vectors.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple, TypeAlias

from indexing.ann.faiss_index import SearchParams

EXACT = "Flat"
LINKS = 32  # neighbours of each vector in a graph (HNSW's M), twice as many on its lowest level
MIN_ROWS = 1_000  # fewer vectors are always searched exactly
MAX_GRAPH_ROWS = 2_000_000  # above, a graph takes minutes to build and is not tried
LINK_BYTES = 272  # a vector's 32 links in a graph: those of its levels and their offsets
ID_BYTES, FACTOR_BYTES = 8, 8  # of a vector in an inverted file; RaBitQ's correction factors
SIMD_WIDTH = 16  # int8 dimensions that FAISS multiplies at once; other lengths take its slow scalar loop
BLOCK = 32  # codes that fast scan reads at once: a cell's last block is padded
EF_SEARCHES = (64, 128, 256, 512, 1_024)
NPROBES = (4, 8, 16, 32, 64, 128, 256, 512)
K_FACTORS = (2.0, 4.0, 8.0)

Ladder: TypeAlias = tuple[SearchParams, ...]  # each higher than the one before
Growth: TypeAlias = Literal["scan", "search"]


class Kind(NamedTuple):
    """A kind of index over a catalogue of known size: a FAISS factory string and what it should take."""

    family: str  # names the same kind over any number of vectors
    factory: str
    growth: Growth
    bytes: int  # expected size in memory, without the vectors in their file


def kinds_for(n: int, dim: int) -> list[Kind]:
    """The kinds to try over n vectors of dim dimensions, beside exact search; none below MIN_ROWS vectors.

    >>> [kind.factory for kind in kinds_for(300_000, 384)]  # doctest: +NORMALIZE_WHITESPACE
    ['SQ8', 'PQ192x4fs', 'IVF2048,SQ8', 'IVF2048,PQ192x4fs', 'IVF2048,RaBitQ', 'HNSW32_SQ8', 'HNSW32']
    >>> [kind.factory for kind in kinds_for(5_000_000, 65)]
    ['Pad80,SQ8', 'Pad66,PQ33x4fs', 'IVF8192,SQ8', 'Pad66,IVF8192,PQ33x4fs', 'IVF8192,RaBitQ']
    """
    if n < MIN_ROWS:
        return []
    even = dim + dim % 2
    pad, halves = f"Pad{even}," if dim % 2 else "", even // 2  # two numbers of a vector are coded together
    wide = -(-dim // SIMD_WIDTH) * SIMD_WIDTH
    widened = f"Pad{wide}," if wide > dim else ""  # not before cells, whose GPU form takes no transformation
    count = cells_for(n)
    cells, cell_bytes = f"IVF{count}", count * dim * 4 + n * ID_BYTES
    coded = (halves + halves % 2) // 2 * max(n + count * BLOCK // 2, count * BLOCK)  # in blocks that are padded
    bits = n * (math.ceil(dim / 8) + FACTOR_BYTES)
    scans_and_cells = [
        Kind("SQ8", f"{widened}SQ8", "scan", n * wide),
        Kind("PQfs", f"{pad}PQ{halves}x4fs", "scan", n * halves // 2),
        Kind("IVF,SQ8", f"{cells},SQ8", "search", cell_bytes + n * dim),
        Kind("IVF,PQfs", f"{pad}{cells},PQ{halves}x4fs", "search", cell_bytes + coded),
        Kind("IVF,RaBitQ", f"{cells},RaBitQ", "search", cell_bytes + bits),
    ]
    graphs = [
        Kind(f"HNSW{LINKS}_SQ8", f"{widened}HNSW{LINKS}_SQ8", "search", n * (wide + LINK_BYTES)),
        Kind(f"HNSW{LINKS}", f"HNSW{LINKS}", "search", n * (4 * dim + LINK_BYTES)),
    ]
    return scans_and_cells + (graphs if n <= MAX_GRAPH_ROWS else [])


def cells_for(n: int) -> int:
    """Cells of an inverted file over n vectors: the power of two nearest to 4 * sqrt(n), at least 16.

    >>> cells_for(300_000), cells_for(100)
    (2048, 32)
    """
    return int(2 ** max(4, round(math.log2(4 * math.sqrt(n)))))


def scaled_ms(milliseconds: float, growth: Growth, rows: int, n: int) -> float:
    """The expected milliseconds over n vectors of a search that takes `milliseconds` over `rows`, at the same recall.

    A scan grows linearly. Graphs and inverted files are both taken to grow with the cube root: by themselves a graph
    grows with the logarithm and an inverted file with the square root, but at a fixed recall `ef_search` has to rise
    and `nprobe` may fall. This only ranks the kinds; the one that is taken is measured over all vectors.

    >>> scaled_ms(1.0, "scan", 100, 800), round(scaled_ms(1.0, "search", 100, 800), 6)
    (8.0, 2.0)
    """
    return milliseconds * (n / rows if growth == "scan" else math.cbrt(n / rows))


def ladders_for(factory: str) -> list[Ladder]:
    """The search parameters to try for a FAISS factory string: a ladder for each `k_factor`, where that is read.

    >>> [len(ladder) for ladder in ladders_for("HNSW32")], [len(ladder) for ladder in ladders_for("IVF64,PQ8x4fs")]
    ([5], [5, 5, 5])
    """
    factors = K_FACTORS if reads_k_factor(factory) else (SearchParams().k_factor,)
    found = re.search(r"IVF(\d+)", factory)
    if found:
        cells = int(found[1])
        probes = [*(probes for probes in NPROBES if probes < cells), cells] if cells < NPROBES[-1] else NPROBES
        return [tuple(SearchParams(nprobe=count, k_factor=factor) for count in probes) for factor in factors]
    if "HNSW" in factory:
        return [tuple(SearchParams(ef_search=ef, k_factor=factor) for ef in EF_SEARCHES) for factor in factors]
    return [tuple(SearchParams(k_factor=factor) for factor in factors)]


def reads_k_factor(factory: str) -> bool:
    """Whether hits of that kind are scored again, so that `k_factor` matters."""
    return "PQ" in factory or "RaBitQ" in factory or "RFlat" in factory


def params_read(factory: str, params: SearchParams) -> dict[str, float]:
    """The search parameters that a kind reads, by name.

    >>> params_read("IVF64,PQ32x4fs", SearchParams(nprobe=4, k_factor=8))
    {'nprobe': 4, 'k_factor': 8}
    """
    read = {"ef_search": "HNSW" in factory, "nprobe": "IVF" in factory, "k_factor": reads_k_factor(factory)}
    return {name: getattr(params, name) for name, counts in read.items() if counts}


def params_text(factory: str, params: SearchParams) -> str:
    """The search parameters that a kind reads, as text.

    >>> params_text("IVF64,PQ32x4fs", SearchParams(nprobe=4, k_factor=8.0)), params_text("SQ8", SearchParams())
    ('nprobe 4, k_factor 8', '')
    """
    return ", ".join(f"{name} {value:g}" for name, value in params_read(factory, params).items())
