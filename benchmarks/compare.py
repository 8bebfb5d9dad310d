"""What changed between two runs, beyond noise: by how much, how surely, and in which stage.

An alarm needs a change of more than 5 % and p < .01 after Holm's correction over everything compared: by Wilcoxon's
signed-rank test where both runs made the same requests in one order, else by the rank-sum test of Mann and Whitney.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import WARM_UP, WHOLE
from benchmarks.load import Call, Load, Time, Timed
from benchmarks.results import LESS_IS_BETTER, Line, Recorded, Unit, sampled
from retrieval.errors import BadData

ALARM_SHARE, ALARM_P = 0.05, 0.01
PROBE_SHARE = 0.10  # by which the machine may have been faster or slower
FLOOR = {"ms": 0.05, "s": 0.05, "MB": 1.0}  # changes below this are nobody's concern, whatever share they are
PAIRED = frozenset({"latency", "quality"})  # made of the same requests in the same order, for one seed
FEWEST = 6  # samples of a side: fewer cannot be told from noise

Verdict: TypeAlias = Literal["worse", "better", "same"]
Values: TypeAlias = NDArray[np.float64]


class Change(NamedTuple):
    """One thing that both runs measured. `p` is corrected for the number of things compared, nan: too few samples."""

    measured: str
    labels: Mapping[str, str]
    unit: Unit
    before: float
    after: float
    ratio: float  # after over before
    p: float
    verdict: Verdict


def compared(before: Sequence[Recorded], after: Sequence[Recorded]) -> list[Change]:
    """The changes from the lines of one file to those of another, the newest of each, in the order of the first.

    Raises BadData where nothing was measured by both, and where the probes of the machine differ by more than 10 %.
    """
    _same_machine(before, after)
    first, second = _by_key(before), _by_key(after)
    pairs = [(first[key], second[key]) for key in first if key in second]
    if not pairs:
        raise BadData("the two files have nothing in common; compare runs of the same bench command")
    return changes(pairs)


def changes(pairs: Sequence[tuple[Line, Line]]) -> list[Change]:
    """What became of each line, with Holm's correction over all that have samples enough."""
    raw = np.array([_p(before, after) for before, after in pairs])
    found = []
    for (before, after), p in zip(pairs, holm(raw).tolist(), strict=True):
        old, new, ratio = _centres(before, after)
        verdict = _verdict(before.unit, old, new, ratio, p)
        found.append(Change(before.measured, before.labels, before.unit, old, new, ratio, p, verdict))
    return found


def holm(p: Values) -> Values:
    """p-values under Holm's correction (1979), each at most 1; nan counts for nothing and stays nan.

    >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    weights = np.arange(len(order), 0, -1)
    found = np.full(len(p), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(p[order] * weights), 1.0)
    return found


def worse_than(found: Sequence[Change], threshold: float) -> list[Change]:
    """The alarms whose change is a loss of more than `threshold`, a share."""
    return [one for one in found if one.verdict == "worse" and _loss(one.unit, one.ratio) > threshold]


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
            timed[side].append(Timed(at, 1_000 * (tools.clock() - asked), answer.milliseconds))
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


def _same_machine(before: Sequence[Recorded], after: Sequence[Recorded]) -> None:
    for old in {one.run.probe for one in before}:
        for new in {one.run.probe for one in after}:
            if new.differs_from(old, PROBE_SHARE):
                raise BadData(
                    f"the machine was not the same: matrix product {old.gflops:g} and {new.gflops:g} GFLOP/s, memory "
                    f"copy {old.gbytes:g} and {new.gbytes:g} GB/s; measure both again on a quiet machine, or give two "
                    "bundles, which are then asked in turn"
                )


def _by_key(recorded: Sequence[Recorded]) -> dict[object, Line]:
    """The newest line of each key."""
    return {one.line.key: one.line for one in sorted(recorded, key=lambda one: one.run.date)}


def _p(before: Line, after: Line) -> float:
    from scipy.stats import mannwhitneyu, wilcoxon

    old, new = np.asarray(before.samples, np.float64), np.asarray(after.samples, np.float64)
    if min(len(old), len(new)) < FEWEST:
        return float("nan")
    if before.measured in PAIRED:
        n = min(len(old), len(new))
        difference = new[:n] - old[:n]
        return float(wilcoxon(difference).pvalue) if difference.any() else 1.0
    return float(mannwhitneyu(old, new).pvalue)


def _centres(before: Line, after: Line) -> tuple[float, float, float]:
    """The middle of both sides and the ratio: of paired times the median ratio of a pair, of others the middles'."""
    old, new = np.asarray(before.samples, np.float64), np.asarray(after.samples, np.float64)
    if not len(old) or not len(new):
        sides = [_summarised(before), _summarised(after)]
        return sides[0], sides[1], sides[1] / sides[0] if sides[0] else float("nan")
    middle = np.median if before.unit in LESS_IS_BETTER else np.mean
    first, second = float(middle(old)), float(middle(new))
    n = min(len(old), len(new))
    if before.measured in PAIRED and before.unit in LESS_IS_BETTER and (old[:n] > 0).all():
        return first, second, float(np.median(new[:n] / old[:n]))
    return first, second, second / first if first else float("nan")


def _summarised(line: Line) -> float:
    """The first figure of a summary that is not a count."""
    values = [value for name, value in line.summary.items() if name != "n" and value is not None]
    return float(values[0]) if values else float("nan")


def _verdict(unit: Unit, before: float, after: float, ratio: float, p: float) -> Verdict:
    if not (p < ALARM_P and abs(ratio - 1) > ALARM_SHARE and abs(after - before) >= FLOOR.get(unit, 0.0)):
        return "same"
    return "worse" if _loss(unit, ratio) > 0 else "better"


def _loss(unit: Unit, ratio: float) -> float:
    return ratio - 1 if unit in LESS_IS_BETTER else 1 - ratio
