"""Two engines that answer the same calls in turn, so that what the machine does meanwhile falls on both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from benchmarks.changes import FEWEST
from benchmarks.latency.by_stage import WARM_UP, WHOLE
from benchmarks.latency.load import Call, Load, Time, Timed
from benchmarks.result_lines import Line, sampled


def interleaved(
    before: Sequence[Call], after: Sequence[Call], *, seconds: float = inf, tools: Time | None = None
) -> tuple[Load, Load]:
    """Two engines asked the same, one right after the other and each first in turn, so that what the machine does
    meanwhile falls on both. Some calls of each are made unmeasured before."""
    tools = tools or Time()
    for warm in (*before[:WARM_UP], *after[:WARM_UP]):
        warm()
    begun, sides = tools.clock(), (before, after)
    timed: tuple[list[Timed], list[Timed]] = ([], [])
    for at in range(min(len(before), len(after))):
        if at >= FEWEST and tools.clock() - begun >= seconds:
            break
        for side in (0, 1) if at % 2 == 0 else (1, 0):
            asked = tools.clock()
            answer = sides[side][at]()
            timed[side].append(Timed(at, 1_000 * (tools.clock() - asked), answer.timings_ms))
    spent = tools.clock() - begun
    return Load(timed[0], spent), Load(timed[1], spent)


def line_pairs(call: str, before: Load, after: Load) -> Iterator[tuple[Line, Line]]:
    """The lines of two loads of one kind of call, stage by stage; a stage that only one of them has is left out."""
    first, second = before.stages(), after.stages()
    sides = [(WHOLE, before.milliseconds, after.milliseconds)]
    sides += [(stage, first[stage], second[stage]) for stage in first if stage in second]
    for stage, old, new in sides:
        labels = {"call": call, "stage": stage}
        yield sampled("latency", labels, "ms", old), sampled("latency", labels, "ms", new)
