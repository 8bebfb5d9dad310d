"""What a page of results is made of, and how lines of results become tables of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.result_lines import PERCENTILES, Line, Recorded
from benchmarks.terminal import number
from serving.reporting.report_view import Chart
from serving.reporting.tables import SLICES

TASKS = {
    "seen_removed": "recommendation, what was bought before removed",
    "seen_kept": "recommendation, what was bought before kept",
    "recommend": "recommendation",
    "search": "search",
}


class Sentence(NamedTuple):
    """A line at the head of the page; `loses`: something else is better."""

    text: str
    loses: bool


class Tile(NamedTuple):
    """A figure in large letters."""

    figure: str
    label: str
    note: str


class Row(NamedTuple):
    """Cells as text; `ours`: of this package."""

    cells: Sequence[str]
    ours: bool = False


class Table(NamedTuple):
    """Rows under a head; `folded`: to be opened by the reader."""

    title: str
    head: Sequence[str]
    rows: Sequence[Row]
    folded: bool = False


class Section(NamedTuple):
    """A part of the page."""

    title: str
    lede: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()


def of(recorded: Sequence[Recorded], *measured: str) -> list[Recorded]:
    """The lines of some kinds."""
    return [one for one in recorded if one.line.measured in measured]


def source(one: Recorded) -> str:
    """The data set, or else the bundle, that a line is about."""
    return one.run.data.get("data") or one.run.data.get("bundle", "")


def newest(recorded: Sequence[Recorded]) -> list[Recorded]:
    """The newest line of each thing measured, on a GPU and on a CPU, whichever release it was measured of, in the order
    of the first."""
    found: dict[object, Recorded] = {}
    for one in recorded:
        key = (source(one), one.line.key, one.run.machine.get("gpu"))
        if key not in found or found[key].run.date <= one.run.date:
            found[key] = one
    return list(found.values())


def by_place(lines: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    """Lines by what they are about, and by the GPU that they ran on."""
    found: dict[str, list[Recorded]] = {}
    for one in lines:
        found.setdefault(", ".join(filter(None, (source(one), one.run.machine.get("gpu")))), []).append(one)
    return found


def plain_table(title: str, lines: Sequence[Recorded], *, folded: bool = False) -> Table:
    """All labels and figures of some lines, and what each is about where that is not one thing."""
    places = by_place(lines)
    if len(places) > 1:
        lines = [
            replace(one, line=replace(one.line, labels={"of": place, **one.line.labels}))
            for place, some in places.items()
            for one in some
        ]
    labels = list(dict.fromkeys(name for one in lines for name in one.line.labels))
    columns = list(dict.fromkeys(name for one in lines for name in one.line.summary))
    rows = [
        Row([SLICES.get(value := one.line.labels.get(name, ""), value) for name in labels]
            + [number(one.line.summary.get(name)) for name in columns])
        for one in lines
    ]  # fmt: skip
    return Table(title, [*labels, *columns], rows, folded)


def highest(line: Line) -> tuple[str, float]:
    """The highest percentile that a line has, or else its median."""
    name = next((name for name in reversed(PERCENTILES) if name in line.summary), "median")
    return name, line.summary.get(name) or 0.0
