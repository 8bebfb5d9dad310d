"""The kinds of index that are worth trying over a catalogue, and what is known of each before it is built.

Every kind is searched through `GuardedIndex`, which scores hits again with the exact vectors: codes of a few bits are
refined there, from the vectors in their file, and hold no copy of them.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple, TypeAlias

from indexing.ann.faiss_index import Effort

EXACT = "Flat"
LINKS = 32  # of a graph's vector, twice as many on its lowest level
FEWEST_ROWS = 1_000  # fewer vectors are scanned, whatever happens
GRAPH_ROWS = 2_000_000  # above, a graph takes minutes to build and cells are used
LINK_BYTES = 272  # of a vector of 32 links: those of its levels, and where they begin
ID_BYTES, FACTOR_BYTES = 8, 8  # of a vector in a cell; beside its bits in RaBitQ
SIXTEEN = 16  # whole numbers that FAISS multiplies at once; of a vector of another length it takes one after the other
BLOCK = 32  # codes that fast scan reads at once: the last of a cell's blocks is padded
QUEUES = (64, 128, 256, 512, 1_024)  # ef_search that is tried
PROBES = (4, 8, 16, 32, 64, 128, 256, 512)  # nprobe that is tried
FACTORS = (2.0, 4.0, 8.0)  # k_factor that is tried

Ladder: TypeAlias = tuple[Effort, ...]  # efforts, each higher than the one before
Growth: TypeAlias = Literal["scan", "search"]


class Kind(NamedTuple):
    """A kind of index over so many vectors: a FAISS factory string and what it should take."""

    family: str  # the same kind over any number of vectors
    factory: str
    growth: Growth
    bytes: int  # what it should hold in memory, beside the vectors in their file


def kinds_for(n: int, dim: int) -> list[Kind]:
    """What is worth trying over n vectors of dim dimensions, beside exact search; nothing over a few.

    >>> [kind.factory for kind in kinds_for(300_000, 384)]  # doctest: +NORMALIZE_WHITESPACE
    ['SQ8', 'PQ192x4fs', 'IVF2048,SQ8', 'IVF2048,PQ192x4fs', 'IVF2048,RaBitQ', 'HNSW32_SQ8', 'HNSW32']
    >>> [kind.factory for kind in kinds_for(5_000_000, 65)]
    ['Pad80,SQ8', 'Pad66,PQ33x4fs', 'IVF8192,SQ8', 'Pad66,IVF8192,PQ33x4fs', 'IVF8192,RaBitQ']
    """
    if n < FEWEST_ROWS:
        return []
    even = dim + dim % 2
    pad, halves = f"Pad{even}," if dim % 2 else "", even // 2  # two numbers of a vector are coded together
    wide = -(-dim // SIXTEEN) * SIXTEEN
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
    return scans_and_cells + (graphs if n <= GRAPH_ROWS else [])


def cells_for(n: int) -> int:
    """Cells of an inverted file over n vectors: about four times the root, a power of two.

    >>> cells_for(300_000), cells_for(100)
    (2048, 32)
    """
    return int(2 ** max(4, round(math.log2(4 * math.sqrt(n)))))


def grown(milliseconds: float, growth: Growth, rows: int, n: int) -> float:
    """What a search that takes so long over `rows` vectors should take over n of them, at the same recall.

    A scan reads them all. Cells and graphs are both taken to grow with the cube root, for a graph alone would grow with
    the logarithm and cells with the square root, but the effort that the recall takes rises for the one and falls for
    the other. It is an expectation and sets an order: what is taken is measured over all vectors.

    >>> grown(1.0, "scan", 100, 800), round(grown(1.0, "search", 100, 800), 6)
    (8.0, 2.0)
    """
    return milliseconds * (n / rows if growth == "scan" else math.cbrt(n / rows))


def ladders_for(factory: str) -> list[Ladder]:
    """The efforts that a kind is tried with, any FAISS factory string: one ladder for each `k_factor` that it reads.

    >>> [len(ladder) for ladder in ladders_for("HNSW32")], [len(ladder) for ladder in ladders_for("IVF64,PQ8x4fs")]
    ([5], [5, 5, 5])
    """
    factors = FACTORS if reads_factor(factory) else (Effort().k_factor,)
    found = re.search(r"IVF(\d+)", factory)
    if found:
        cells = int(found[1])
        probes = [*(probes for probes in PROBES if probes < cells), cells] if cells < PROBES[-1] else PROBES
        return [tuple(Effort(nprobe=count, k_factor=factor) for count in probes) for factor in factors]
    if "HNSW" in factory:
        return [tuple(Effort(ef_search=ef, k_factor=factor) for ef in QUEUES) for factor in factors]
    return [tuple(Effort(k_factor=factor) for factor in factors)]


def reads_factor(factory: str) -> bool:
    """Whether hits are refined, so that `k_factor` counts."""
    return "PQ" in factory or "RaBitQ" in factory or "RFlat" in factory


def efforts_of(factory: str, effort: Effort) -> dict[str, float]:
    """What a kind reads of an effort, by the field's name.

    >>> efforts_of("HNSW32", Effort(ef_search=64)), efforts_of("IVF64,PQ32x4fs", Effort(nprobe=4, k_factor=8))
    ({'ef_search': 64}, {'nprobe': 4, 'k_factor': 8})
    """
    read = {"ef_search": "HNSW" in factory, "nprobe": "IVF" in factory, "k_factor": reads_factor(factory)}
    return {name: getattr(effort, name) for name, counts in read.items() if counts}


def effort_words(factory: str, effort: Effort) -> str:
    """The same in words.

    >>> effort_words("IVF64,PQ32x4fs", Effort(nprobe=4, k_factor=8.0)), effort_words("SQ8", Effort())
    ('nprobe 4, k_factor 8', '')
    """
    return ", ".join(f"{name} {value:g}" for name, value in efforts_of(factory, effort).items())
