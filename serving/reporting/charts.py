"""The report's charts as inline SVG, drawn by matplotlib without leaving a mark on its global state.

Colours are the page's own CSS variables, so that one drawing serves light and dark; text stays text, in its font.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ranking.ordering.platt import Reliability
from serving.reporting.tables import stage_label
from serving.texts.catalogue import Language, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# matplotlib draws in these stand-ins, which then become the page's CSS variables
NAMES = ("ink", "muted", "faint", "retrieval", "fused", "features", "reranked", "final")
STAND_INS = tuple(f"#{n:02d}00{n:02d}" for n in range(1, len(NAMES) + 1))
INK, MUTED, FAINT, RETRIEVAL, FUSED, FEATURES, RERANKED, FINAL = STAND_INS
COLOURS = {"retrieval": RETRIEVAL, "fused": FUSED, "features": FEATURES, "reranked": RERANKED, "final": FINAL}
MARKERS = {"retrieval": "o", "fused": "^", "features": "v", "reranked": "D", "final": "s"}
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)), (0, (2, 3)))
NO_STAGES: Mapping[str, str] = MappingProxyType({})
FONTS: Mapping[Language, Sequence[str]] = MappingProxyType(
    {
        "zh": (
            "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Zen Hei",
            "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "SimHei",
            "Noto Sans CJK JP", "Arial Unicode MS",
        )
    }
)  # fmt: skip
HEIGHT = 3.9
WIDTH = 5.2  # inches: wide enough for the labels, narrow enough to be read on a phone


class Palette(NamedTuple):
    """The colours of a drawing."""

    ink: str
    muted: str
    faint: str
    retrieval: str
    fused: str
    features: str
    reranked: str
    final: str


PAGE = Palette(*STAND_INS)  # become those of the page, whatever they are there
PRINT = Palette(
    "#1a1c20", "#5a606b", "#dedbd3", "#1d5bb8", "#7a3ea8", "#7d5a00", "#bf3f0a", "#0d6e66"
)  # the page's by day
PAPER = "#fbfaf7"


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def chart_language(language: Language) -> Language:
    """The language that charts are labelled in: English where no font here has the signs of the one asked for."""
    return language if language == "en" or chart_font(language) else "en"


@cache
def chart_font(language: Language) -> str | None:
    """The name of an installed font with the signs of a language, or None; looked for once a process."""
    wanted = FONTS.get(language, ())
    return next((name for name in wanted if name in _font_names()), None) or next(
        (name for name in wanted if name in _font_names(renew=True)), None
    )


def _font_names(*, renew: bool = False) -> set[str]:
    """The fonts that matplotlib knows; `renew`: with those that were installed since it looked for them first."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    if renew:
        for path in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
            with suppress(OSError, RuntimeError):  # no font, or of a kind that matplotlib cannot read
                fontManager.addfont(path)
    return {font.name for font in fontManager.ttflist}


def recall_curves(stages: Mapping[str, Mapping[int, float]], language: Language = "en") -> str:
    """Recall against k of each stage (k -> recall), named at the line's end: ours in colour, baselines in grey."""
    return as_svg(f"recall {stages}", HEIGHT, lambda axes: _draw_curves(axes, stages, language), language=language)


def stage_dots(
    values: Mapping[str, float], intervals: Mapping[str, Interval], label: str, language: Language = "en"
) -> str:
    """One figure of every stage on a line of its own, best first, with its 95 % interval where it has one."""
    height = max(0.8 + 0.34 * len(values), HEIGHT if len(values) > 3 else 0)
    return as_svg(
        f"dots {values}", height, lambda axes: _draw_dots(axes, values, intervals, label, language), language=language
    )


def change_bars(
    changes: Mapping[str, Interval], label: str, stages: Mapping[str, str] = NO_STAGES, language: Language = "en"
) -> str:
    """Changes with their 95 % intervals against the line of no change, in the colours of the `stages` that brought
    them; in that of reranking without."""
    height = 0.85 + 0.75 * len(changes)
    return as_svg(
        f"change {changes}", height, lambda axes: _draw_changes(axes, changes, label, stages), language=language
    )


def reliability_lines(before: Reliability, after: Reliability, language: Language = "en") -> str:
    """Observed shares against predicted probabilities, before and after Platt scaling, with the diagonal of a perfect
    fit."""
    return as_svg(
        f"reliability {before} {after}",
        HEIGHT,
        lambda axes: _draw_reliability(axes, before, after, language),
        language=language,
    )


def _draw_curves(axes: Axes, stages: Mapping[str, Mapping[int, float]], language: Language) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    baselines = [name for name in stages if name not in COLOURS]
    for name, curve in stages.items():
        ours = name in COLOURS
        axes.plot(
            list(curve),
            list(curve.values()),
            color=COLOURS.get(name, MUTED),
            linestyle="-" if ours else DASHES[baselines.index(name) % len(DASHES)],
            linewidth=2.6 if ours else 1.2,
            marker=MARKERS.get(name, ""),
            markersize=5,
            zorder=3 if ours else 2,
        )
    cuts = sorted({k for curve in stages.values() for k in curve})
    axes.set_xscale("log")
    axes.set_xticks(cuts, [str(k) for k in cuts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(text("chart.curves_axis", language))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.tick_params(length=0)
    ends = {name: (max(curve), curve[max(curve)]) for name, curve in stages.items() if curve}
    _name_line_ends(axes, ends, language)


def _name_line_ends(axes: Axes, ends: Mapping[str, tuple[int, float]], language: Language) -> None:
    top = axes.get_ylim()[1] or 1.0
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = spread([ends[name][1] / top for name in names], gap=0.068)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            stage_label(name, language),
            ends[name],
            xytext=(1.05, height),
            textcoords="axes fraction",
            va="center",
            color=COLOURS.get(name, MUTED),
            fontweight="bold" if name in COLOURS else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS.get(name, FAINT),
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _draw_dots(
    axes: Axes, values: Mapping[str, float], intervals: Mapping[str, Interval], label: str, language: Language
) -> None:
    names = sorted(values, key=lambda name: (values[name], name))
    for line, name in enumerate(names):
        colour = COLOURS.get(name, MUTED)
        axes.plot(values[name], line, MARKERS.get(name, "o"), color=colour, markersize=8 if name in COLOURS else 6)
        edge = values[name]
        if name in intervals:
            low, edge = intervals[name].low, max(edge, intervals[name].high)
            axes.plot([low, edge], [line, line], color=colour, linewidth=2)
        axes.annotate(
            short(values[name]), (edge, line), xytext=(8, 0), textcoords="offset points", va="center", color=colour
        )
    axes.set_yticks(range(len(names)), [stage_label(name, language) for name in names])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(COLOURS.get(name, MUTED))
        tick.set_fontweight("bold" if name in COLOURS else "normal")
    ends = [*values.values(), *(bound for interval in intervals.values() for bound in interval)]
    low, high = min(ends, default=0), max(ends, default=1)
    start = 0 if low <= high / 2 else low - 0.1 * (high - low)
    axes.set_xlim(start, high + 0.17 * ((high - start) or 1))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="y", color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.tick_params(length=0)


def _draw_changes(axes: Axes, changes: Mapping[str, Interval], label: str, stages: Mapping[str, str]) -> None:
    names = list(changes)[::-1]
    axes.axvline(0, color=INK, linewidth=1)
    for line, name in enumerate(names):
        mean, low, high = changes[name]
        stage = stages.get(name, "reranked")
        colour = COLOURS.get(stage, MUTED)
        axes.plot([low, high], [line, line], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(mean, line, MARKERS.get(stage, "o"), color=colour, markersize=8)
        axes.annotate(
            f"{'+' if mean > 0 else ''}{short(mean)}",
            (mean, line),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontweight="bold",
        )
    ends = [0.0, *(bound for change in changes.values() for bound in change)]
    reach = (max(ends) - min(ends)) or 0.001
    axes.set_xlim(min(ends) - 0.1 * reach, max(ends) + 0.3 * reach)
    axes.set_ylim(-0.6, len(names) - 0.2)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=3)


def _draw_reliability(axes: Axes, before: Reliability, after: Reliability, language: Language) -> None:
    from matplotlib.ticker import FuncFormatter

    end = max(max(bins) for one in (before, after) for bins in (one.predicted, one.observed)) or 1.0
    upper = max(before, after, key=lambda one: one.observed[-1])  # its name stands above its end, the other's below
    axes.plot([0, end], [0, end], color=FAINT, linewidth=1)
    names = (text("chart.before", language), text("chart.after", language))
    for one, name, colour, line in ((before, names[0], MUTED, DASHES[1]), (after, names[1], RERANKED, "-")):
        axes.plot(one.predicted, one.observed, color=colour, linestyle=line, linewidth=2, marker="o", markersize=4)
        at, above = (one.predicted[-1], one.observed[-1]), one is upper
        axes.annotate(
            name, at, xytext=(-4, 6 if above else -6), textcoords="offset points", ha="right",
            va="bottom" if above else "top", color=colour,
        )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel(text("chart.predicted", language))
    axes.set_ylabel(text("chart.observed", language), color=MUTED)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.tick_params(length=0)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights in [0, 1], moved as little as it takes to stand `gap` apart.

    >>> [round(height, 2) for height in spread([0.1, 0.12, 0.99, 1.0], gap=0.1)]
    [0.1, 0.2, 0.9, 1.0]
    """
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    ceiling = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def short(value: float) -> str:
    """Four places without the leading zero.

    >>> short(0.0934), short(-0.002)
    ('.0934', '-.0020')
    """
    return f"{value:.4f}".replace("0.", ".", 1)


def as_svg(
    salt: str, height: float, draw: Callable[[Axes], None], *, width: float = WIDTH, language: Language = "en"
) -> str:
    """Draw on a figure of its own, so many inches high; the salt keeps the ids of several drawings on a page apart.

    Text is measured in a font of `language`, and shown in the page's.
    """
    written = io.StringIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _drawn((width, height), draw, _style(salt, PAGE, language)) as figure:
        figure.savefig(written, format="svg", transparent=True, metadata=unsaid)
    return _for_page(written.getvalue())


def as_png(height: float, draw: Callable[[Axes], None], *, width: float = WIDTH) -> bytes:
    """Draw a picture that stands by itself; `draw` takes its colours from PRINT."""
    written = io.BytesIO()
    with _drawn((width, height), draw, _style("png", PRINT)) as figure:
        figure.savefig(written, format="png", dpi=200, facecolor=PAPER, bbox_inches="tight", pad_inches=0.2)
    return written.getvalue()


def standing_alone(svg: str) -> str:
    """A drawing of `as_svg` as a file of its own, in the colours of the page by day."""
    for name, colour in PRINT._asdict().items():
        svg = svg.replace(f"var(--{name})", colour)
    return svg.replace("<svg", f'<svg style="background: {PAPER}; font-family: sans-serif"', 1)


@contextmanager
def _drawn(
    size: tuple[float, float], draw: Callable[[Axes], None], style: Mapping[RcKeyType, object]
) -> Iterator[Figure]:
    """A drawing under a style, whatever the user has set."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), _missing_weights_unsaid():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        yield figure


@contextmanager
def _missing_weights_unsaid() -> Iterator[None]:
    """Fonts of many signs often have one weight, which matplotlib would log at each text that is bold."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _style(salt: str, palette: Palette, language: Language = "en") -> dict[RcKeyType, object]:
    font = chart_font(language)
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": ["sans-serif", *([font] if font else [])],
        "font.size": 10.5,
        "text.color": palette.ink,
        "axes.facecolor": "none",
        "axes.edgecolor": palette.faint,
        "axes.labelcolor": palette.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "xtick.color": palette.muted,
        "ytick.color": palette.ink,
    }


def _for_page(svg: str) -> str:
    """Only the drawing: sized by the page, coloured by its variables, in its font, with no style that leaks."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for stand_in, variable in zip(STAND_INS, NAMES, strict=True):
        svg = svg.replace(stand_in, f"var(--{variable})")
    return svg
