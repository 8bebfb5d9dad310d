"""Recall against queries a second of kinds of indexes, as ann-benchmarks draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from serving.reporting.charts import DASHES, HEIGHT, PAGE, PRINT, Palette, as_png, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
WIDE = 6.4  # inches
LOWEST = 0.7  # recall below this is of no use to anybody
SPAN = 30.0  # the largest of an axis over its least, from which ticks are fewer a decade


class IndexPoint(NamedTuple):
    """One setting of one kind of index."""

    recall: float
    per_second: float


class Pareto(NamedTuple):
    """What is drawn: the front of each kind; if one was chosen, that point and the best of all beside it.

    Kinds of `aside` were measured over fewer vectors: they are drawn thin, and are no part of the best of all.
    """

    kinds: Mapping[str, Sequence[IndexPoint]]
    k: int
    chosen: tuple[str, IndexPoint] | None = None
    target: float | None = None
    aside: frozenset[str] = frozenset()

    def svg(self) -> str:
        """For a page."""
        return as_svg(f"pareto {self}", self._height, lambda axes: _draw(axes, self, PAGE), width=WIDE)

    def png(self) -> bytes:
        """As a picture."""
        return as_png(self._height, lambda axes: _draw(axes, self, PRINT), width=WIDE)

    @property
    def _height(self) -> float:
        """Inches, with room for a legend of two columns."""
        return HEIGHT + 0.12 * (len(self.kinds) + 3)


def front(points: Sequence[IndexPoint]) -> list[IndexPoint]:
    """The points that no other beats in both recall and rate, by recall.

    >>> front([IndexPoint(0.9, 100), IndexPoint(0.8, 90), IndexPoint(0.95, 50)])
    [IndexPoint(recall=0.9, per_second=100), IndexPoint(recall=0.95, per_second=50)]
    """
    kept: list[IndexPoint] = []
    for point in sorted(points, key=lambda one: (-one.recall, -one.per_second)):
        if not kept or point.per_second > kept[-1].per_second:
            kept.append(point)
    return kept[::-1]


def _draw(axes: Axes, chart: Pareto, colours: Palette) -> None:
    hues = (colours.retrieval, colours.reranked, colours.fused, colours.final, colours.ink, colours.muted)
    if chart.chosen is not None:
        _draw_best(axes, chart, colours)
    for at, (name, points) in enumerate(chart.kinds.items()):
        kept = front(points)
        thin = name in chart.aside
        axes.plot(
            [point.recall for point in kept], [point.per_second for point in kept], marker=MARKS[at % len(MARKS)],
            color=hues[at % len(hues)], linestyle=DASHES[at // len(hues) % len(DASHES)], linewidth=0.9 if thin else 2.2,
            markersize=4 if thin else 6, markerfacecolor="none" if thin else None, label=name,
        )  # fmt: skip
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_xlim(left=max(LOWEST, axes.get_xlim()[0]), right=max(1.004, axes.get_xlim()[1]))
    axes.set_xlabel(f"recall@{chart.k} against exact search")
    axes.set_ylabel("queries a second")
    axes.grid(color=colours.faint, linewidth=0.6)
    if chart.chosen is not None:
        _mark_chosen(axes, *chart.chosen, chart.target, colours)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)
    axes.tick_params(length=0, which="both")


def _draw_best(axes: Axes, chart: Pareto, colours: Palette) -> None:
    """The front over all kinds that were measured over all vectors, as a broad band."""
    best = front([point for name, points in chart.kinds.items() if name not in chart.aside for point in points])
    axes.plot(
        [point.recall for point in best], [point.per_second for point in best], color=colours.faint, linewidth=10,
        solid_capstyle="round", solid_joinstyle="round", zorder=1, label="best of all",
    )  # fmt: skip


def _mark_chosen(axes: Axes, name: str, point: IndexPoint, target: float | None, colours: Palette) -> None:
    """A ring around the point, its name where no line passes, and the recall that was wanted as a line."""
    at = (point.recall, point.per_second)
    axes.plot(
        *at, "o", markersize=15, markerfacecolor="none", markeredgecolor=colours.ink, markeredgewidth=1.8, zorder=5
    )
    axes.annotate(
        f"chosen: {name}", at, xytext=(0.03, 0.05), textcoords="axes fraction", color=colours.ink, fontweight="bold",
        fontsize=9.5, arrowprops={"arrowstyle": "-", "color": colours.ink, "linewidth": 0.7, "shrinkB": 9},
    )  # fmt: skip
    if target is not None:
        axes.axvline(target, color=colours.muted, linewidth=0.9, linestyle=DASHES[1], zorder=1)
        axes.annotate(
            f"wanted: {target:g}", (target, 0.2), xycoords=("data", "axes fraction"), xytext=(-4, 0),
            textcoords="offset points", rotation=90, ha="right", va="bottom", color=colours.muted, fontsize=9,
        )  # fmt: skip


def plain_log(axis: Axis) -> None:
    """Ticks as numbers, not as powers of ten, of what is drawn already: fewer a decade over many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_data_interval()
    steps = (1.0, 2.0, 5.0) if high < SPAN * low else (1.0, 3.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
