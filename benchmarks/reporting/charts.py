"""Charts of measurements as inline SVG, in the colours of the page that they stand on; see `serving.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from benchmarks.changes import Change
from benchmarks.histogram import PER_DOUBLING
from benchmarks.terminal import number
from serving.reporting.charts import (
    DASHES,
    FAINT,
    FINAL,
    FUSED,
    HEIGHT,
    INK,
    MUTED,
    RERANKED,
    RETRIEVAL,
    Interval,
    as_svg,
)
from serving.reporting.pareto_chart import plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HUES = {"history": FUSED, "encode": MUTED, "search": RETRIEVAL, "filters": FINAL, "rerank": RERANKED, "other": FAINT}
LINES = (RETRIEVAL, RERANKED, FUSED, FINAL, INK, MUTED)
Curves: TypeAlias = dict[str, list[tuple[float, float]]]
SPARE = (FINAL, INK, MUTED)  # of stages that are not named above


class LoadPoint(NamedTuple):
    """What arrivals at a rate saw."""

    rate: float  # a second
    p50: float  # ms
    high: float  # ms, the highest percentile that is a figure


class Spot(NamedTuple):
    """A figure at a cost, with its 95 % interval."""

    name: str
    cost: float
    mean: float
    low: float
    high: float


def unequalled(found: Sequence[Spot]) -> list[Spot]:
    """Those that nothing as cheap or cheaper equals, the cheapest first.

    >>> some = [Spot("a", 9, 0.5, 0, 1), Spot("b", 2, 0.3, 0, 1), Spot("c", 4, 0.3, 0, 1)]
    >>> [spot.name for spot in unequalled(some)]
    ['b', 'a']
    """
    best, kept = -inf, list[Spot]()
    for spot in sorted(found, key=lambda one: (one.cost, -one.mean)):
        if spot.mean > best:
            best, kept = spot.mean, [*kept, spot]
    return kept


def waterfall(stages: Mapping[str, Mapping[str, float]]) -> str:
    """The median milliseconds of every stage of each kind of call, one after the other."""
    return as_svg(f"waterfall {stages}", 1.2 + 0.5 * len(stages), lambda axes: _draw_waterfall(axes, stages))


def load_curve(opened: Sequence[LoadPoint], closed: Sequence[LoadPoint], bound: float | None) -> str:
    """Latency against the rate of arrivals, beside callers who wait for each answer."""
    return as_svg(f"load {opened}{closed}", HEIGHT, lambda axes: _draw_load(axes, opened, closed, bound))


def bars(values: Mapping[str, float], label: str, ours: frozenset[str] = frozenset()) -> str:
    """One bar for each name, those of `ours` in colour."""
    return as_svg(
        f"bars {label} {values}", 0.9 + 0.36 * len(values), lambda axes: _draw_bars(axes, values, label, ours)
    )


def dots(values: Mapping[str, float], label: str, ours: frozenset[str] = frozenset(), line: float | None = None) -> str:
    """One dot for each name on a logarithmic axis, those of `ours` in colour, and a line of comparison."""
    return as_svg(
        f"dots {label} {values}", 0.9 + 0.36 * len(values), lambda axes: _draw_dots(axes, values, label, ours, line)
    )


def interval_dots(points: Mapping[str, Interval], label: str) -> str:
    """One dot with its interval for each name, in the order given."""
    return as_svg(
        f"intervals {label} {points}", 0.9 + 0.34 * len(points), lambda axes: _draw_intervals(axes, points, label)
    )


def curves(named: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, *, logarithmic: bool = False) -> str:
    """One line for each name, through its points from left to right."""
    height = HEIGHT + 0.2 * ((len(named) + 1) // 2)
    return as_svg(f"curves {x} {y} {named}", height, lambda axes: _draw_curves(axes, named, x, y, logarithmic))


def spots(found: Sequence[Spot], x: str, y: str) -> str:
    """Figures with their intervals over a logarithmic axis of costs; in colour and by name those that nothing cheaper
    equals, the others grey."""
    height = HEIGHT + 0.2 * ((len(found) + 1) // 2)
    return as_svg(f"spots {found}", height, lambda axes: _draw_spots(axes, found, x, y))


def histograms(named: Mapping[str, Mapping[str, int]]) -> str:
    """The share of calls in each bucket of milliseconds, a name each; buckets by their lower edge."""
    return as_svg(f"histograms {named}", HEIGHT + 0.2 * len(named), lambda axes: _draw_histograms(axes, named))


def ratios(changes: Mapping[str, Change]) -> str:
    """What became of each thing as a share of what it was; alarms in colour."""
    return as_svg(f"ratios {changes}", 0.9 + 0.34 * len(changes), lambda axes: _draw_ratios(axes, changes))


def _draw_waterfall(axes: Axes, stages: Mapping[str, Mapping[str, float]]) -> None:
    names = list(stages)[::-1]
    every = list(dict.fromkeys(stage for one in stages.values() for stage in one))
    spare = iter(SPARE * len(every))
    hues = {stage: HUES.get(stage) or next(spare) for stage in every}
    longest = max((sum(one.values()) for one in stages.values()), default=1.0) or 1.0
    for line, name in enumerate(names):
        left = 0.0
        for stage, value in stages[name].items():
            axes.barh(line, value, left=left, height=0.55, color=hues[stage])
            left += value
        axes.annotate(f"{left:.3g} ms", (left, line), xytext=(6, 0), textcoords="offset points", va="center", color=INK)
    for stage in every:
        axes.barh(0, 0, color=hues[stage], label=stage)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.28 - 0.4 / len(names)), ncols=4, frameon=False, fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1.18 * longest)
    axes.set_xlabel("milliseconds, medians by stage")
    axes.tick_params(length=0)


def _draw_load(axes: Axes, opened: Sequence[LoadPoint], closed: Sequence[LoadPoint], bound: float | None) -> None:
    rates, told = [point.rate for point in opened], [point for point in opened if point.high > point.p50]
    if told:
        heights = [point.high for point in told]
        axes.plot(
            [point.rate for point in told], heights, "-o", color=RERANKED, linewidth=2.4, label="arrivals, highest"
        )
    axes.plot(rates, [point.p50 for point in opened], "-o", color=RETRIEVAL, linewidth=2.4, label="arrivals, p50")
    axes.plot(
        [point.rate for point in closed], [point.p50 for point in closed], "s", color=MUTED, linestyle=DASHES[1],
        linewidth=1.2, label="callers who wait, p50",
    )  # fmt: skip
    if bound is not None:
        axes.axhline(bound, color=FAINT, linewidth=1)
        axes.annotate(f"{bound:g} ms", (0, bound), xytext=(4, 3), textcoords="offset points", color=MUTED, fontsize=9)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    plain_log(axes.yaxis)
    axes.set_xlabel("answers a second")
    axes.set_ylabel("milliseconds")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.tick_params(length=0, which="both")


def _draw_bars(axes: Axes, values: Mapping[str, float], label: str, ours: frozenset[str]) -> None:
    names = list(values)[::-1]
    for at, name in enumerate(names):
        axes.barh(at, values[name], height=0.6, color=FINAL if name in ours else MUTED)
        axes.annotate(
            number(values[name]), (values[name], at), xytext=(6, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1.2 * (max(values.values(), default=1.0) or 1.0))
    axes.set_xlabel(label)
    axes.tick_params(length=0)


def _draw_dots(axes: Axes, values: Mapping[str, float], label: str, ours: frozenset[str], line: float | None) -> None:
    names = list(values)[::-1]
    for at, name in enumerate(names):
        hue = FINAL if name in ours else MUTED
        axes.plot(values[name], at, "o", color=hue, markersize=8)
        axes.annotate(
            number(values[name]), (values[name], at), xytext=(9, 0), textcoords="offset points", va="center", color=hue
        )
    if line is not None:
        axes.axvline(line, color=INK, linewidth=0.8)
    shown = [*values.values(), *([] if line is None else [line])]
    axes.set_xscale("log")
    axes.set_xlim(min(shown, default=0.1) / 2, 6 * max(shown, default=1.0))
    plain_log(axes.xaxis)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="y", color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.tick_params(length=0, which="both")


def _draw_intervals(axes: Axes, points: Mapping[str, Interval], label: str) -> None:
    names = list(points)[::-1]
    for at, name in enumerate(names):
        mean, low, high = points[name]
        axes.plot([low, high], [at, at], color=FINAL, linewidth=2)
        axes.plot(mean, at, "o", color=FINAL, markersize=7)
        axes.annotate(
            f"{mean:.4f}".replace("0.", ".", 1),
            (high, at),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=FINAL,
        )
    axes.set_xlim(0, 1.22 * (max((one.high for one in points.values()), default=0.0) or 1.0))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label)
    axes.grid(axis="y", color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.tick_params(length=0)


def _draw_curves(
    axes: Axes, named: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, logarithmic: bool
) -> None:
    for at, (name, points) in enumerate(named.items()):
        xs, ys = zip(*sorted(points), strict=True) if points else ((), ())
        axes.plot(
            xs, ys, "o", linestyle=DASHES[at // len(LINES) % len(DASHES)], color=LINES[at % len(LINES)], linewidth=2,
            markersize=5, label=name,
        )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_log(axes.xaxis)
        plain_log(axes.yaxis)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _gridded(axes)


def _draw_spots(axes: Axes, found: Sequence[Spot], x: str, y: str) -> None:
    front = unequalled(found)
    for spot in found:
        if spot not in front:
            axes.plot([spot.cost, spot.cost], [spot.low, spot.high], color=FAINT, linewidth=1)
            axes.plot(spot.cost, spot.mean, "o", color=MUTED, markersize=5)
    axes.plot([spot.cost for spot in front], [spot.mean for spot in front], color=FAINT, linewidth=1.4)
    for at, spot in enumerate(front):
        hue, mark = LINES[at % len(LINES)], "osD^vP"[at // len(LINES) % 6]
        axes.plot([spot.cost, spot.cost], [spot.low, spot.high], color=hue, linewidth=1.6)
        axes.plot(spot.cost, spot.mean, mark, color=hue, markersize=8, label=spot.name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _gridded(axes)


def _draw_histograms(axes: Axes, named: Mapping[str, Mapping[str, int]]) -> None:
    for at, (name, counts) in enumerate(named.items()):
        edges, whole = [float(edge) for edge in counts], sum(counts.values()) or 1
        shares = [count / whole for count in counts.values()]
        widths = [edge * 2 ** (1 / PER_DOUBLING) - edge for edge in edges]
        label = f"{name}, {whole:,} calls"
        axes.bar(edges, shares, widths, align="edge", color=LINES[at % len(LINES)], alpha=0.75, label=label)
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("share of calls")
    _gridded(axes)


def _draw_ratios(axes: Axes, changes: Mapping[str, Change]) -> None:
    names, shown = list(changes)[::-1], [1.0]
    hues = {"worse": RERANKED, "better": FINAL, "same": MUTED, "not tested": MUTED}
    for at, name in enumerate(names):
        one = changes[name]
        known = [value for value in (one.ratio, one.low, one.high) if isfinite(value)]
        axes.plot([min(known), max(known)], [at, at], color=hues[one.verdict], linewidth=1.4)
        axes.plot(one.ratio, at, "D", color=hues[one.verdict], markersize=6)
        axes.annotate(
            f"{one.ratio - 1:+.1%}", (max(known), at), xytext=(8, 0), textcoords="offset points", va="center",
            color=hues[one.verdict], fontsize=9,
        )  # fmt: skip
        shown += known
    reach = max(shown) - min(shown) or 0.1
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xlim(min(shown) - 0.08 * reach, max(shown) + 0.3 * reach)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xlabel("after over before, and its 95 % interval")
    axes.tick_params(length=0)


def _gridded(axes: Axes) -> None:
    axes.grid(color=FAINT, linewidth=0.6)
    axes.tick_params(length=0, which="both")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=9)
