"""README's tables, written from committed results, so that no figure in it is copied by hand.

A table stands between `<!-- bench KIND FILE -->` and `<!-- /bench -->`, made of `benchmarks/results/FILE.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks.latency import WHOLE
from benchmarks.results import PERCENTILES, Line, Recorded, latest, read
from benchmarks.show import number
from retrieval.errors import BadData
from serving.tables import OURS, heading, said, shown

RESULTS = Path(__file__).parent / "results"
Table: TypeAlias = Callable[[Sequence[Recorded]], list[list[str]]]
MARKED = re.compile(r"(<!-- bench (?P<kind>\S+) (?P<file>\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
QUALITY = ("recall@10", "recall@100", "ndcg@10", "mrr@10")


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """The text with every table between markers made anew.

    Raises BadData for a kind of table that is not known, and for a file of results that is not there.
    """
    return MARKED.sub(lambda found: f"{found[1]}{_table(found['kind'], folder / found['file'])}\n{found[4]}", text)


def _table(kind: str, stem: Path) -> str:
    if kind not in TABLES:
        raise BadData(f"<!-- bench {kind} ... -->: no such table; there are {', '.join(TABLES)}")
    recorded = latest(read(stem.with_name(f"{stem.name}.jsonl")))
    rows, measured = TABLES[kind](recorded), [one for one in recorded if one.line.measured == MADE_OF[kind]]
    if not measured:
        raise BadData(f"{stem}.jsonl: holds nothing of {MADE_OF[kind]}; measure it, or take the table out")
    run = max((one.run for one in measured), key=lambda run: run.date)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    machine = ", ".join(
        filter(None, (run.machine.get("gpu"), run.machine.get("processor"), f"{run.machine.get('cores', '?')} cores"))
    )
    return "\n".join([*lines, "", f"`{run.command}`; commit {run.commit}, {run.date[:10]}, {machine}."])


def _latency(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every kind of call: the whole, and medians by stage."""
    calls: dict[str, dict[str, Line]] = {}
    for one in recorded:
        if one.line.measured == "latency":
            calls.setdefault(one.line.labels["call"], {})[one.line.labels["stage"]] = one.line
    rows = [["call, ms", "n", *PERCENTILES, "medians by stage"]]
    for call, stages in calls.items():
        whole = stages[WHOLE].summary
        parts = ", ".join(f"{stage} {number(line.summary['p50'])}" for stage, line in stages.items() if stage != WHOLE)
        rows.append([call, number(whole["n"]), *(number(whole.get(name)) for name in PERCENTILES), parts])
    return rows


def _load(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Arrivals at fixed rates, then callers who wait."""
    rows = [["load, ms", "asked a second", "answered a second", *PERCENTILES]]
    for one in sorted(
        (one for one in recorded if one.line.measured == "load"), key=lambda one: one.line.labels["load"]
    ):
        labels, summary = one.line.labels, one.line.summary
        name = f"{labels['callers']} callers who wait" if labels["load"] == "closed" else "arrivals"
        rates = [number(summary.get(rate)) for rate in ("asked per second", "answered per second")]
        rows.append([name, *rates, *(number(summary.get(percentile)) for percentile in PERCENTILES)])
    return rows


def _quality(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every task and stage, the best of each task first, those of the same figures in one row; what was run for a
    sample of the requests is left out."""
    lines = [one.line for one in recorded if one.line.measured == "quality" and one.line.summary["mean"] is not None]
    most: dict[str, float] = {}
    for line in lines:
        most[line.labels["task"]] = max(most.get(line.labels["task"], 0.0), line.summary["n"] or 0.0)
    tasks: dict[str, dict[str, dict[str, float]]] = {}
    for line in lines:
        labels, mean = line.labels, line.summary["mean"]
        if mean is not None and line.summary["n"] == most[labels["task"]]:
            tasks.setdefault(labels["task"], {}).setdefault(labels["stage"], {})[labels["metric"]] = mean
    rows = [["task", "stage", *map(heading, QUALITY)]]
    for task, stages in tasks.items():
        names: dict[tuple[str, ...], list[str]] = {}
        for stage in sorted(stages, key=lambda name: -stages[name].get("ndcg@10", 0.0)):
            figures = tuple(shown(stages[stage].get(metric)) for metric in QUALITY)
            names.setdefault(figures, []).append(f"**{said(stage)}**" if stage in OURS else said(stage))
        for figures, alike in names.items():
            rows.append([f"{task.replace('_', ' ')}, n = {most[task]:,.0f}", ", ".join(alike), *figures])
    return rows


def _peers(recorded: Sequence[Recorded]) -> list[list[str]]:
    """What each peer costs."""
    columns = ("build s", "MB", "p50 ms", "per second")
    rows = [["task", "peer", "chosen", *columns]]
    for one in recorded:
        if one.line.measured == "peer":
            labels = one.line.labels
            figures = [number(one.line.summary.get(name)) for name in columns]
            rows.append([labels["task"], said(labels["peer"]), labels["chosen"], *figures])
    return rows


def _of(measured: str, heads: Sequence[str], labels: Sequence[str], figures: Sequence[str]) -> Table:
    """A table with a row for each line of a kind: some of its labels, then some of its figures."""

    def table(recorded: Sequence[Recorded]) -> list[list[str]]:
        rows = [list(heads)]
        for one in recorded:
            if one.line.measured == measured:
                told = [one.line.labels[label] for label in labels]
                rows.append([*told, *(number(one.line.summary.get(name)) for name in figures)])
        return rows

    return table


TABLES: Mapping[str, Table] = {
    "latency": _latency,
    "load": _load,
    "quality": _quality,
    "peers": _peers,
    "encode": _of(
        "encode",
        ("texts", "way", "a second", "times faster", "median cosine", "recall@100"),
        ("texts", "way"),
        ("p50", "times faster", "median cosine", "recall@100"),
    ),
    "rerank": _of(
        "rerank",
        ("candidates", "cores", "way", "median ms", "times faster"),
        ("pairs", "cores", "way"),
        ("p50", "times faster"),
    ),
    "frontier": _of(
        "frontier",
        ("task", "way", "median ms", "times faster", "lift of nDCG@10", "low", "high", "share kept"),
        ("task", "way"),
        ("p50", "times faster", "lift", "low", "high", "kept"),
    ),
}
MADE_OF = {name: {"peers": "peer"}.get(name, name) for name in TABLES}
