"""Measurements as tables in a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.changes import PROBE_SHARE, Change
from benchmarks.environment import Probe, data_fingerprint, probe
from benchmarks.result_lines import Line, Run, append, append_end, as_json
from indexing.bundle.bundle import Bundle
from serving.cli.show import console, say

if TYPE_CHECKING:
    from rich.table import Table

PIVOTS = {"quality": ("metric", "mean"), "beyond accuracy": ("figure", "value")}  # a label whose values are columns


def deliver(
    run: Run, lines: Iterable[Line], *, out: Path | None, as_one: bool, measure: Callable[[], Probe] = probe
) -> list[Line]:
    """Takes the lines as they are measured: each is kept in `out` at once, and all are shown at the end.

    The machine is probed again before, which `out` keeps too, and a line on stderr says so where it was not as quick
    as when the run began.
    """
    found: list[Line] = []
    if out is not None:
        append(out, run, [])  # that it cannot be written is to be known before anything is measured
    for line in lines:
        found.append(line)
        if out is not None:
            append(out, run, [line])
    now = measure()
    if out is not None:
        append_end(out, run, now)
    show_run(replace(run, ended=now), found, as_one)
    if now.differs_from(run.probe, PROBE_SHARE):
        then = f"{run.probe.gflops:g} GFLOP/s in a matrix product and {run.probe.gbytes:g} GB/s of memory copied"
        say(f"the machine was not quiet: {then} when the run began, {now.gflops:g} and {now.gbytes:g} at its end")
    return found


def show_run(run: Run, lines: Sequence[Line], as_one: bool) -> None:
    """All lines of a run as tables, with what they were taken on; or as one JSON object."""
    if as_one:
        print(json.dumps({"lines": [as_json(run, line) for line in lines]}, ensure_ascii=False))
        return
    screen = console()
    for table in tables(lines):
        screen.print(table)
    screen.print("; ".join(f"{name} {value}" for name, value in run.data.items()))
    screen.print("; ".join(f"{name} {value}" for name, value in run.machine.items()))
    screen.print(f"commit {run.commit}, matrix product {run.probe.gflops:g} GFLOP/s, copy {run.probe.gbytes:g} GB/s")
    screen.print(f"again: {run.command}")


def tables(lines: Sequence[Line]) -> Iterator[Table]:
    """One table for each kind of measurement and set of labels."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Line]] = {}
    for line in pivoted(lines):
        groups.setdefault((line.measured, line.unit, tuple(line.labels)), []).append(line)
    for (measured, unit, labels), some in groups.items():
        yield _table(f"{measured}, {unit}", labels, some)


def pivoted(lines: Sequence[Line]) -> list[Line]:
    """The same with the lines of one stage as one line, whose columns are their metrics."""
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
    """What changed, alarms marked."""
    table = _empty("what changed")
    for name in ("measured", "which", "before", "after", "change", "95 %", "by machine", "p (Holm)", ""):
        table.add_column(name, justify="left" if name in ("measured", "which", "") else "right")
    for one in found:
        p = "too few" if one.p != one.p else f"{one.p:.2g}"
        which = ", ".join(f"{name} {value}" for name, value in one.labels.items())
        machine = "" if one.explained == 1 else f"{one.explained - 1:+.1%}"
        spread = "" if one.low != one.low else f"{one.low - 1:+.1%} to {one.high - 1:+.1%}"
        cells = (number(one.before), number(one.after), f"{one.ratio - 1:+.1%}", spread, machine, p)
        table.add_row(one.measured, which, *cells, "" if one.verdict == "same" else one.verdict)
    return table


def number(value: float | None) -> str:
    """Three or four figures, whatever the size.

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


def data_of(
    about: Mapping[str, object] | None = None,
    *,
    bundle: Path | None = None,
    data: Path | None = None,
    quick: bool = False,
    **more: object,
) -> Mapping[str, str]:
    """What a run is about, as results keep it: a bundle and its live release, a data set and its fingerprint, whether
    it was quick, and everything else that is given, as text. Raises BadBundle and BadData."""
    named: dict[str, object] = {}
    if bundle is not None:
        named |= {"bundle": bundle.name, "release": Bundle.open(bundle).current().id}
    if data is not None:
        named |= {"data": data.name, "data_fingerprint": data_fingerprint(data)}
    named |= {**(about or {}), **more, "quick": "yes" if quick else None}
    return {name.replace("_", " "): str(value) for name, value in named.items() if value is not None}
