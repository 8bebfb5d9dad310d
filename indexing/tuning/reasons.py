"""Why an index was chosen, in a sentence for the manifest and for whoever asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from indexing.ann.faiss_kinds import EXACT, Kind, effort_words
from indexing.byte_sizes import size_of
from indexing.tuning.benchmark_index import Point


def quick(exact: Point) -> str:
    """Exact search is quick enough."""
    return f"exact search reads {size_of(exact.bytes)} of vectors in {exact.milliseconds:.3g} ms, which is quick enough"


def taken(
    point: Point, k: int, exact: Point, others: Mapping[str, float], over: Sequence[Kind], memory: int | None
) -> str:
    """A kind was measured to be what is wanted; `others` are expected milliseconds of kinds that were only tried."""
    ranked = sorted((spent, kind) for kind, spent in others.items() if math.isfinite(spent))
    expected = [f"{kind} {spent:.3g} ms" for spent, kind in ranked]
    missing = [kind for kind, spent in others.items() if not math.isfinite(spent)]
    parts = [said(point, k), f"exact search takes {exact.milliseconds:.3g} ms and {size_of(exact.bytes)}"]
    parts += [f"expected of others: {', '.join(expected)}"] if expected else []
    parts += [f"too little recall on a sample: {', '.join(missing)}"] if missing else []
    return "; ".join([*parts, *_too_large(over, memory)])


def nothing(points: Sequence[Point], k: int, target: float, over: Sequence[Kind], memory: int | None) -> str:
    """Nothing reaches the target, or is quicker than exact search, which is taken."""
    exact, tried = points[0], [point for point in points if point.kind != EXACT]
    spent = f"exact search, {exact.milliseconds:.3g} ms and {size_of(exact.bytes)} of vectors read from their file"
    best = [f"the best was {said(max(tried, key=lambda point: point.recall), k)}"] if tried else []
    reach = f"nothing else reaches recall@{k} of {target:g} sooner"
    return "; ".join([spent, reach, *best, *_too_large(over, memory)])


def asked_for(point: Point, k: int) -> str:
    """There was no choice."""
    return f"asked for; {said(point, k)}"


def said(point: Point, k: int) -> str:
    """A point in words."""
    effort = effort_words(point.kind, point.effort)
    setting = f"{point.kind} at {effort}" if effort else point.kind
    return f"{setting}: recall@{k} {point.recall:.3f} in {point.milliseconds:.3g} ms, {size_of(point.bytes)}"


def _too_large(over: Sequence[Kind], memory: int | None) -> list[str]:
    if memory is None or not over:
        return []
    sizes = ", ".join(f"{kind.factory} {size_of(kind.bytes)}" for kind in over)
    return [f"over the memory of {size_of(memory)}: {sizes}"]
