"""Measurements are written to a file as they come, and shown as tables in a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.changes import PROBE_SHARE, Change
from benchmarks.environment import Probe, data_fingerprint, probe
from benchmarks.result_lines import Line, Run, append, append_end, line_as_json
from indexing.bundle.bundle import Bundle
from serving.cli.show import console, say

if TYPE_CHECKING:
    from rich.table import Table

PIVOTS = {
    "quality": ("metric", "mean"),
    "beyond accuracy": ("figure", "value"),
}  # kind: label whose values become columns


def record(
    run: Run, lines: Iterable[Line], *, out: Path | None, as_json: bool, measure: Callable[[], Probe] = probe
) -> list[Line]:
    """Appends each line to `out` as soon as it is measured, and shows all of them at the end.

    The machine's speed is probed once more at the end and written to `out`; a warning on stderr says so where it
    differs from the start by more than PROBE_SHARE.
    """
    found: list[Line] = []
    if out is not None:
        append(out, run, [])  # fails now, not after the measurement, where the file cannot be written
    for line in lines:
        found.append(line)
        if out is not None:
            append(out, run, [line])
    now = measure()
    if out is not None:
        append_end(out, run, now)
    show_run(replace(run, ended=now), found, as_json)
    if now.differs_from(run.probe, PROBE_SHARE):
        start = f"{run.probe.gflops:g} GFLOP/s in a matrix product and {run.probe.gbytes:g} GB/s of memory copied"
        say(f"the machine's speed changed: {start} at the start, {now.gflops:g} and {now.gbytes:g} at the end")
    return found


def show_run(run: Run, lines: Sequence[Line], as_json: bool) -> None:
    """All lines of a run as tables with its data, machine and command; or as one JSON object."""
    if as_json:
        print(json.dumps({"lines": [line_as_json(run, line) for line in lines]}, ensure_ascii=False))
        return
    screen = console()
    for table in tables(lines):
        screen.print(table)
    screen.print("; ".join(f"{name} {value}" for name, value in run.data.items()))
    screen.print("; ".join(f"{name} {value}" for name, value in run.machine.items()))
    screen.print(f"commit {run.commit}, matrix product {run.probe.gflops:g} GFLOP/s, copy {run.probe.gbytes:g} GB/s")
    screen.print(f"to repeat: {run.command}")


def tables(lines: Sequence[Line]) -> Iterator[Table]:
    """One table for each kind of measurement, unit and set of labels."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Line]] = {}
    for line in pivoted(lines):
        groups.setdefault((line.measured, line.unit, tuple(line.labels)), []).append(line)
    for (measured, unit, labels), some in groups.items():
        yield _table(f"{measured}, {unit}", labels, some)


def pivoted(lines: Sequence[Line]) -> list[Line]:
    """The same lines, with those that differ only in the label of PIVOTS as one line with several columns."""
    found: dict[object, Line] = {}
    for at, line in enumerate(lines):
        column, shown = PIVOTS.get(line.measured, ("", ""))
        labels = {name: value for name, value in line.labels.items() if name != column}
        key = (line.measured, tuple(labels.items())) if column else at
        before = found[key].summary if key in found else {}
        summary = {**before, line.labels[column]: line.summary[shown]} if column else line.summary
        found[key] = replace(line, labels=labels, summary=summary)
    return list(found.values())


def changes_table(found: Sequence[Change]) -> Table:
    """Every change; the last column has its verdict unless it is 'same'."""
    table = _empty("changes")
    for name in ("measured", "labels", "before", "after", "change", "95 %", "machine", "p (Holm)", ""):
        table.add_column(name, justify="left" if name in ("measured", "labels", "") else "right")
    for one in found:
        p = "too few samples" if one.p != one.p else f"{one.p:.2g}"
        labels = ", ".join(f"{name} {value}" for name, value in one.labels.items())
        machine = "" if one.explained == 1 else f"{one.explained - 1:+.1%}"
        spread = "" if one.low != one.low else f"{one.low - 1:+.1%} to {one.high - 1:+.1%}"
        cells = (number(one.before), number(one.after), f"{one.ratio - 1:+.1%}", spread, machine, p)
        table.add_row(one.measured, labels, *cells, "" if one.verdict == "same" else one.verdict)
    return table


def number(value: float | None) -> str:
    """A number with three significant digits, or all digits before the point; – for None and nan.

    >>> number(0.01234), number(12.345), number(123456.0), number(None), number(3.0)
    ('0.0123', '12.3', '123,456', '–', '3')
    """
    if value is None or value != value:
        return "–"
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _table(title: str, labels: Sequence[str], lines: Sequence[Line]) -> Table:
    columns = list(dict.fromkeys(name for line in lines for name in line.summary))
    table = _empty(title)
    for name in labels:
        table.add_column(name)
    for name in columns:
        table.add_column(name, justify="right")
    for line in lines:
        cells = [number(line.summary[name]) if name in line.summary else "" for name in columns]
        table.add_row(*(line.labels[name] for name in labels), *cells)
    return table


def _empty(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")


def run_context(
    about: Mapping[str, object] | None = None,
    *,
    bundle: Path | None = None,
    data: Path | None = None,
    quick: bool = False,
    **more: object,
) -> Mapping[str, str]:
    """The `data` of a run: bundle and live release, data set and fingerprint, whether it is quick, and everything else
    that is given and not None, as text. Raises BadBundle and BadData."""
    named: dict[str, object] = {}
    if bundle is not None:
        named |= {"bundle": bundle.name, "release": Bundle.open(bundle).current().id}
    if data is not None:
        named |= {"data": data.name, "data_fingerprint": data_fingerprint(data)}
    named |= {**(about or {}), **more, "quick": "yes" if quick else None}
    return {name.replace("_", " "): str(value) for name, value in named.items() if value is not None}
