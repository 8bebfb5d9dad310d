"""Two engines timed in turn, so that a busy moment of the machine slows both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from benchmarks.changes import FEWEST
from benchmarks.latency.by_stage import WARM_UP, WHOLE
from benchmarks.latency.load import Call, Clock, Load, Timed
from benchmarks.result_lines import Line, sampled


def interleaved(
    before: Sequence[Call], after: Sequence[Call], *, seconds: float = inf, clock: Clock | None = None
) -> tuple[Load, Load]:
    """The loads of two engines that take turns, each first in every other pair of calls, so that a busy moment of the
    machine slows both. Each makes some warm-up calls before, which are not timed."""
    clock = clock or Clock()
    for warm in (*before[:WARM_UP], *after[:WARM_UP]):
        warm()
    begun, sides = clock.now(), (before, after)
    timed: tuple[list[Timed], list[Timed]] = ([], [])
    for at in range(min(len(before), len(after))):
        if at >= FEWEST and clock.now() - begun >= seconds:
            break
        for side in (0, 1) if at % 2 == 0 else (1, 0):
            sent = clock.now()
            answer = sides[side][at]()
            timed[side].append(Timed(at, 1_000 * (clock.now() - sent), answer.timings_ms))
    spent = clock.now() - begun
    return Load(timed[0], spent), Load(timed[1], spent)


def line_pairs(call: str, before: Load, after: Load) -> Iterator[tuple[Line, Line]]:
    """The lines of two loads of one kind of call, by stage; stages that only one of them has are left out."""
    first, second = before.stages(), after.stages()
    sides = [(WHOLE, before.milliseconds, after.milliseconds)]
    sides += [(stage, first[stage], second[stage]) for stage in first if stage in second]
    for stage, old, new in sides:
        labels = {"call": call, "stage": stage}
        yield sampled("latency", labels, "ms", old), sampled("latency", labels, "ms", new)
