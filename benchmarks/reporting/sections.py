"""What stands where on the page of results: every section is made of the lines that it is about, or left out."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from benchmarks.changes import compared
from benchmarks.latency.by_stage import WHOLE
from benchmarks.reporting import charts
from benchmarks.reporting import quality as report_quality
from benchmarks.reporting import speed as report_speed
from benchmarks.reporting.blocks import Row, Section, Table, Tile, highest, newest, of
from benchmarks.result_lines import Recorded
from benchmarks.terminal import number
from serving.reporting.report_view import Chart

DRAWN = 24  # changes at most, alarms first
UNALARMING = ("same", "not tested")


def tiles(recorded: Sequence[Recorded]) -> list[Tile]:
    """The figures that a reader asks for first."""
    found = []
    for one in of(recorded, "latency"):
        if one.line.labels["stage"] == WHOLE and one.line.labels["call"] in ("recommend", "search"):
            name, value = highest(one.line)
            note = f"{name} {number(value)} ms of {number(one.line.summary['n'])} calls, one after another, warm"
            found.append(Tile(f"{number(one.line.median)} ms", f"median of a call: {one.line.labels['call']}", note))
    for one in of(recorded, "highest rate"):
        labels = one.line.labels
        note = f"{labels['call']}; arrivals that do not wait, latency from when each was due"
        figure = f"{number(one.line.summary['rate'])} a second"
        found.append(Tile(figure, f"with {labels['percentile']} under {labels['bound ms']} ms", note))
    return found[:3]


def sections(recorded: Sequence[Recorded], before: Sequence[Recorded] = ()) -> list[Section]:
    """Every section that there are results for, in the order of the page."""
    told = newest(recorded)
    made = [*report_quality.sections(told), *report_speed.sections(told), _changes(recorded, before)]
    return [section for section in made if section is not None]


def runs(recorded: Sequence[Recorded]) -> list[dict[str, str]]:
    """Each run with its command, machine and probe, the newest first."""
    found: dict[str, dict[str, str]] = {}
    for run in sorted((one.run for one in recorded), key=lambda run: run.date, reverse=True):
        found.setdefault(
            run.date + run.command,
            {
                "command": run.command, "date": run.date, "commit": run.commit, **run.data, **run.machine,
                "matrix product": f"{run.probe.gflops:g} GFLOP/s", "memory copy": f"{run.probe.gbytes:g} GB/s",
            },
        )  # fmt: skip
    return list(found.values())


def _changes(recorded: Sequence[Recorded], before: Sequence[Recorded]) -> Section | None:
    if not before:
        return None
    found = compared(before, recorded)
    rows = [
        Row([one.measured, ", ".join(one.labels.values()), number(one.before), number(one.after),
             f"{one.ratio - 1:+.1%}", number(one.p), one.verdict], one.verdict not in UNALARMING)
        for one in found
    ]  # fmt: skip
    head = ["measured", "which", "before", "after", "change", "p (Holm)", ""]
    ranked = sorted(found, key=lambda one: (one.verdict in UNALARMING, -abs(one.ratio - 1)))
    ratios = {f"{one.measured}: {', '.join(one.labels.values())}": one for one in ranked if 0 < one.ratio < inf}
    first = dict(list(ratios.items())[:DRAWN])
    drawn = [Chart("After over before", "alarms in colour, first", charts.ratios(first))] if first else []
    return Section(
        "Before and after",
        "A change is one of more than 5 % with p < .01 after Holm's correction.",
        drawn,
        [Table("", head, rows, folded=bool(drawn))],
    )
