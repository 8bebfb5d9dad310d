"""Changes between two runs beyond noise: how large, how significant, and in which stage.

A change is significant where it exceeds 5 % with p < .01 after Holm's correction over everything compared: by
Wilcoxon's signed-rank test where both runs made the same requests in the same order, else by the rank-sum test of Mann
and Whitney.

Between two files of results, durations and rates may also differ because the machine's speed did. The probes of both
runs say by how much, in matrix products and in memory copies; only what exceeds that is tested and counts towards the
5 %. Figures that do not depend on the machine's speed, such as quality, are compared as they are.

A figure without samples cannot be tested: it is listed where it changed by more than 5 %, and never counts as worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite, isnan, nan
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import Probe
from benchmarks.histogram import values_in
from benchmarks.intervals import mean_ratio_interval, median_interval
from benchmarks.result_lines import LESS_IS_BETTER, Line, Recorded, Run, Unit
from retrieval.errors import BadData

ALARM_SHARE, ALARM_P = 0.05, 0.01
PROBE_SHARE = 0.10  # difference of two probes beyond which runs are not comparable
FLOOR = {"ms": 0.05, "s": 0.05, "MB": 1.0}  # smaller changes are ignored, whatever their share
PAIRED = frozenset({"latency", "quality"})  # with one seed, samples of the same requests in the same order
FEWEST = 6  # samples on each side: fewer cannot be told from noise
MACHINE_INDEPENDENT = frozenset({"quality", "slice", "beyond accuracy", "funnel", "train, validation"})
SUBJECTS = ("data", "bundle")  # may differ between two files, as long as each file has only one of them
NOT_COMPARED = frozenset({"n", "low", "high"})  # entries of a summary

Verdict: TypeAlias = Literal["worse", "better", "same", "not tested"]
Values: TypeAlias = NDArray[np.float64]


class Change(NamedTuple):
    """One measurement of both runs. `p` is corrected for the number of comparisons; nan where there are too few
    samples.

    explained: the part of the ratio that the machine's change of speed accounts for. low, high: the 95 % interval of
    the ratio; for unpaired durations it is made of both medians' intervals and a little too wide.
    """

    measured: str
    labels: Mapping[str, str]
    unit: Unit
    before: float
    after: float
    ratio: float  # after over before
    p: float
    verdict: Verdict
    explained: float = 1.0
    low: float = nan
    high: float = nan

    @property
    def beyond(self) -> float:
        """The part of the ratio that the machine does not explain."""
        return self.ratio / self.explained

    def as_json(self) -> dict[str, object]:
        """Every field and `beyond`; None for a number that is not finite."""
        fields = {**self._asdict(), "beyond": self.beyond}
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value for name, value in fields.items()
        }


class Span(NamedTuple):
    """The range of the ratio, after over before, that a duration may have because the machine's speed changed."""

    low: float = 1.0
    high: float = 1.0

    @classmethod
    def between(cls, before: Run, after: Run) -> Span:
        """The range for two runs, from all probes at their start and, where both have them, at their end."""
        ratios = [old / new for pair in _probes(before, after) for old, new in zip(*pair, strict=True)]
        return cls(min(1.0, *ratios), max(1.0, *ratios))

    def nearest(self, ratio: float, unit: Unit) -> float:
        """The part of a figure's ratio that this range explains.

        >>> Span(1.0, 1.25).nearest(1.5, "ms"), Span(1.0, 1.25).nearest(0.5, "per second")
        (1.25, 0.8)
        """
        if unit not in ("ms", "s", "per second") or isnan(ratio):
            return 1.0
        low, high = (1 / self.high, 1 / self.low) if unit == "per second" else self
        return min(max(ratio, low), high)


def compared(before: Sequence[Recorded], after: Sequence[Recorded]) -> list[Change]:
    """The changes from the newest lines of one file to those of another, in the order of the first.

    Lines are paired where they were measured under the same settings, quick or not; names of data sets and bundles
    count where a file has several. Raises BadData where no line can be paired, and where the probes of two runs differ
    by more than 10 % and one of their figures depends on the machine's speed.
    """
    several = [name for name in SUBJECTS if max(len(_values_of(name, side)) for side in (before, after)) > 1]
    first, second = _by_key(before, several), _by_key(after, several)
    pairs = [(first[key], second[key]) for key in first if key in second]
    if not pairs:
        raise BadData("the two files have nothing in common; compare results of the same bench command")
    spans = [_span(old, new) for old, new in pairs]
    return changes([(old.line, new.line) for old, new in pairs], spans)


def changes(pairs: Sequence[tuple[Line, Line]], spans: Sequence[Span] | None = None) -> list[Change]:
    """The change of each pair of lines beyond what its span explains, with Holm's correction over all that have enough
    samples; without samples, every figure of a summary that changed by more than 5 %."""
    found: list[Change] = []
    raw: list[float] = []
    for (before, after), span in zip(pairs, spans or [Span()] * len(pairs), strict=True):
        if not len(samples_of(before)) or not len(samples_of(after)):
            untested = list(_untested(before, after))
            found, raw = [*found, *untested], [*raw, *(one.p for one in untested)]
            continue
        old, new, ratio = _centres(before, after)
        explained = span.nearest(ratio, before.unit)
        raw.append(_p(before, after, explained))
        about = (before.measured, before.labels, before.unit, old, new, ratio, raw[-1])
        found.append(Change(*about, "same", explained, *_interval(before, after)))
    corrected = holm(np.array(raw, np.float64)).tolist()
    return [
        one if one.verdict == "not tested" else one._replace(p=p, verdict=_verdict(one._replace(p=p)))
        for one, p in zip(found, corrected, strict=True)
    ]


def samples_of(line: Line) -> Values:
    """The values that a test may use, float64 [n]: the samples. A closed loop keeps only its histogram; with c callers
    every c-th value of it counts, since callers who queue for the same answer are no independent samples.

    The open loop has none: each arrival waits for those before it, and its rate depends on the run's own throughput.
    """
    if line.measured != "load" or line.labels.get("load") != "closed" or line.samples:
        return np.asarray(line.samples, np.float64)
    callers = int(line.labels["callers"])
    return values_in(line.histogram)[callers // 2 :: callers]


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
    """The changes that are significantly worse, beyond what the machine explains, by more than a share `threshold`."""
    return [one for one in found if one.verdict == "worse" and _loss(one.unit, one.beyond) > threshold]


def _span(before: Recorded, after: Recorded) -> Span:
    """What the machine explains of a pair of lines. Raises BadData where its speed differed too much."""
    if before.line.measured in MACHINE_INDEPENDENT:
        return Span()
    for old, new in _probes(before.run, after.run):
        if new.differs_from(old, PROBE_SHARE):
            raise BadData(
                f"the machine's speed differed: matrix product {old.gflops:g} and {new.gflops:g} GFLOP/s, memory "
                f"copy {old.gbytes:g} and {new.gbytes:g} GB/s; measure both again on a quiet machine, or give two "
                "bundles, which are then timed in turn"
            )
    return Span.between(before.run, after.run)


def _probes(before: Run, after: Run) -> list[tuple[Probe, Probe]]:
    ends = [] if before.ended is None or after.ended is None else [(before.ended, after.ended)]
    return [(before.probe, after.probe), *ends]


def _values_of(name: str, recorded: Sequence[Recorded]) -> set[str]:
    return {one.run.data[name] for one in recorded if name in one.run.data}


def _by_key(recorded: Sequence[Recorded], several: Sequence[str]) -> dict[object, Recorded]:
    """The newest line of each key."""
    found: dict[object, Recorded] = {}
    for one in sorted(recorded, key=lambda one: one.run.date):
        setting = tuple(part for part in one.run.setting if part[0] not in SUBJECTS or part[0] in several)
        found[one.line.key, setting, one.run.quick] = one
    return found


def _paired(before: Line, after: Line) -> bool:
    """Whether samples at the same position are of the same request, or user: where both lines have as many."""
    sizes = [(line.summary.get("n"), len(line.samples)) for line in (before, after)]
    return before.measured in PAIRED and (before.measured != "quality" or sizes[0] == sizes[1])


def _p(before: Line, after: Line, explained: float) -> float:
    """The p-value of the change beyond the explained ratio."""
    from scipy.stats import mannwhitneyu, wilcoxon

    old, new = explained * samples_of(before), samples_of(after)
    n = min(len(old), len(new))
    if n < FEWEST:
        return float("nan")
    if _paired(before, after):
        difference = new[:n] - old[:n]
        return float(wilcoxon(difference).pvalue) if difference.any() else 1.0
    return float(mannwhitneyu(old, new).pvalue)


def _centres(before: Line, after: Line) -> tuple[float, float, float]:
    """The centre of both sides and their ratio. Durations: the medians, and where paired the median of the pairs'
    ratios. Qualities and rates: the means."""
    old, new = samples_of(before), samples_of(after)
    n = min(len(old), len(new))
    if before.unit not in LESS_IS_BETTER:
        if _paired(before, after):
            old, new = old[:n], new[:n]
        first, second = float(old.mean()), float(new.mean())
        return first, second, _ratio(first, second)
    first, second = float(np.median(old)), float(np.median(new))
    if _paired(before, after) and (old[:n] > 0).all():
        return first, second, float(np.median(new[:n] / old[:n]))
    return first, second, _ratio(first, second)


def _interval(before: Line, after: Line) -> tuple[float, float]:
    """The 95 % interval of the ratio, nan for too few samples."""
    old, new = samples_of(before), samples_of(after)
    n, paired = min(len(old), len(new)), _paired(before, after)
    if n < FEWEST:
        return nan, nan
    if paired:
        old, new = old[:n], new[:n]
    if before.unit not in LESS_IS_BETTER:
        return mean_ratio_interval(old, new, paired=paired)
    if paired and (old > 0).all():
        return median_interval(new / old)
    (first, last), (low, high) = median_interval(old), median_interval(new)
    return _ratio(last, low), _ratio(first, high)


def _ratio(before: float, after: float) -> float:
    return after / before if before else inf if after else 1.0


def _untested(before: Line, after: Line) -> Iterator[Change]:
    """Every figure of a summary that changed by more than 5 %, without a test."""
    for name, old in before.summary.items():
        new = after.summary.get(name)
        if name in NOT_COMPARED or old is None or new is None or abs(new - old) <= ALARM_SHARE * abs(old):
            continue
        labels = {**before.labels, "figure": name}
        yield Change(before.measured, labels, before.unit, old, new, _ratio(old, new), nan, "not tested")


def _verdict(one: Change) -> Verdict:
    if abs(one.after - one.explained * one.before) < FLOOR.get(one.unit, 0.0):
        return "same"
    if not (one.p < ALARM_P and abs(one.beyond - 1) > ALARM_SHARE):
        return "not tested" if isnan(one.p) and abs(one.beyond - 1) > ALARM_SHARE else "same"
    return "worse" if _loss(one.unit, one.beyond) > 0 else "better"


def _loss(unit: Unit, ratio: float) -> float:
    return ratio - 1 if unit in LESS_IS_BETTER else 1 - ratio
