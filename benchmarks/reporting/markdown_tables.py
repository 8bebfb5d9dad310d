"""The tables of README and docs/measured.md, generated from the committed results.

A table stands between `<!-- bench KIND FILE -->` and `<!-- /bench -->` and is made of `benchmarks/results/FILE.jsonl`.
`<!-- bench slices FILE NAME,NAME -->` shows only the named slices. Every run that a row comes from is listed below it.
`<!-- bench headline NAME,NAME -->` is the small table of README: see `benchmarks.reporting.headline`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks.latency.by_stage import WHOLE
from benchmarks.quality.parts import OF
from benchmarks.quality.recall import SLICED
from benchmarks.reporting.headline import headline
from benchmarks.result_lines import PERCENTILES, Line, Recorded, Run, latest, read
from benchmarks.terminal import number
from benchmarks.vector_index.curves import K
from retrieval.errors import BadData
from serving.internals import OURS, heading, shown, slice_label, stage_label

RESULTS = Path(__file__).parents[1] / "results"
Table: TypeAlias = Callable[[Sequence[Recorded]], list[list[str]]]
MARKED = re.compile(
    r"(<!-- bench (?P<kind>\S+) (?P<file>\S+)(?: (?P<only>\S+))? -->\n).*?(?P<end><!-- /bench -->)", re.DOTALL
)
QUALITY = ("recall@10", "recall@100", "ndcg@10", "mrr@10")
HEADLINE = "headline"
ENOUGH = 0.95  # recall that a setting of an index has to reach
COSTS = ("build s", "MB", "median ms", "per second")


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """The text with every table between markers generated anew.

    Raises BadData for an unknown kind of table and for a missing file of results.
    """
    return MARKED.sub(lambda found: f"{found[1]}{_between(found, folder)}\n{found['end']}", text)


def _between(marker: re.Match[str], folder: Path) -> str:
    if marker["kind"] == HEADLINE:
        return "\n".join(_markdown(headline(folder, marker["file"].split(","))))
    return _table(marker, folder / marker["file"])


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return lines


def _table(marker: re.Match[str], stem: Path) -> str:
    kind, only = marker["kind"], (marker["only"] or "").split(",")
    if kind not in TABLES:
        raise BadData(f"<!-- bench {kind} ... -->: unknown kind of table; use one of {', '.join([*TABLES, HEADLINE])}")
    kinds = MADE_OF.get(kind, (kind,))
    lines = [one for one in latest(read(stem.with_name(f"{stem.name}.jsonl"))) if one.line.measured in kinds]
    lines = [one for one in _of_whole_tables(lines) if only == [""] or one.line.labels.get("slice") in only]
    if not any(one.line.measured == kinds[0] for one in lines):
        named = "" if only == [""] else f" of {marker['only']}"
        raise BadData(f"{stem}.jsonl: has no results of {kinds[0]}{named}; measure them, or remove the table")
    table = _markdown(TABLES[kind](lines))
    runs = {one.run.date + one.run.command: one.run for one in sorted(lines, key=lambda one: one.run.date)}
    return "\n".join([*table, "", *map(_run_line, runs.values())])


def _run_line(run: Run) -> str:
    """A run's command, commit, date and machine."""
    machine = (run.machine.get("gpu"), run.machine.get("processor"), f"{run.machine.get('cores', '?')} cores")
    return f"`{run.command}`; commit {run.commit}, {run.date[:10]}, {', '.join(filter(None, machine))}."


def _of_whole_tables(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Without qualities of stages that were run for other requests than the rows beside them, or for none."""
    most: dict[tuple[str, str], float] = {}
    for one in recorded:
        if one.line.measured == "quality":
            most[_requests(one)] = max(most.get(_requests(one), 0.0), one.line.summary["n"] or 0.0)
    return [
        one
        for one in recorded
        if one.line.measured != "quality"
        or (one.line.summary["mean"] is not None and one.line.summary["n"] == most[_requests(one)])
    ]


def _requests(one: Recorded) -> tuple[str, str]:
    """The task of a line, and whether it is of all of its requests or of the sample that was reranked."""
    return one.line.labels["task"], one.line.labels.get(OF, "")


def _latency(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every kind of call: its percentiles, and the medians by stage."""
    calls: dict[str, dict[str, Line]] = {}
    for one in recorded:
        if one.line.measured == "latency":
            calls.setdefault(one.line.labels["call"], {})[one.line.labels["stage"]] = one.line
    rows = [["call, ms", "n", *PERCENTILES, "medians by stage"]]
    for call, stages in calls.items():
        whole = stages[WHOLE].summary
        parts = ", ".join(f"{stage} {number(line.median)}" for stage, line in stages.items() if stage != WHOLE)
        rows.append([call, number(whole["n"]), *(number(whole.get(name)) for name in PERCENTILES), parts])
    return rows


def _load(recorded: Sequence[Recorded]) -> list[list[str]]:
    """The closed loop by callers, then the open loop by rates."""
    rows = [["load, ms", "requests a second", "answers a second", *PERCENTILES]]
    loads = [one.line for one in recorded if one.line.measured == "load"]
    for line in sorted(loads, key=lambda line: line.labels["load"]):
        labels, summary = line.labels, line.summary
        name = f"closed loop, callers: {labels['callers']}" if labels["load"] == "closed" else "open loop"
        rates = [number(summary.get(rate)) for rate in ("asked per second", "answered per second")]
        rows.append([name, *rates, *(number(summary.get(percentile)) for percentile in PERCENTILES)])
    return rows


def _quality(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every task and stage, the best of each task first; stages with equal figures share a row."""
    rows = [["task", "stage", *map(heading, QUALITY)]]
    for (task, of), (n, stages) in _qualities(recorded).items():
        names: dict[tuple[str, ...], list[str]] = {}
        for stage, means in stages.items():
            figures = tuple(shown(means.get(metric)) for metric in QUALITY)
            names.setdefault(figures, []).append(_stage_name(stage))
        for figures, alike in names.items():
            title = ", ".join(filter(None, (task.replace("_", " "), of and f"{of} that was reranked", f"n = {n:,.0f}")))
            rows.append([title, ", ".join(alike), *figures])
    return rows


def _qualities(
    recorded: Sequence[Recorded],
) -> dict[tuple[str, str], tuple[float, dict[str, dict[str, float]]]]:
    """By task and sample the number of requests, and the means of each stage, the best stage first."""
    tasks: dict[tuple[str, str], tuple[float, dict[str, dict[str, float]]]] = {}
    for one in (one for one in recorded if one.line.measured == "quality"):
        line = one.line
        _, stages = tasks.setdefault(_requests(one), (line.summary["n"] or 0.0, {}))
        stages.setdefault(line.labels["stage"], {})[line.labels["metric"]] = line.summary["mean"] or 0.0
    return {task: (n, _best_first(stages)) for task, (n, stages) in tasks.items()}


def _best_first(stages: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return dict(sorted(stages.items(), key=lambda stage: -stage[1].get("ndcg@10", 0.0)))


def _stage_name(stage: str) -> str:
    return f"**{stage_label(stage)}**" if stage in OURS else stage_label(stage)


def _peers(recorded: Sequence[Recorded]) -> list[list[str]]:
    """The quality of each peer in every task, the best first, and its costs; then peers with costs only."""
    metrics = ("recall@10", "recall@100", "ndcg@10")
    rows = [["task", "peer", "settings", *map(heading, metrics), *COSTS]]
    costs = {
        (one.line.labels["task"], one.line.labels["peer"]): one.line for one in recorded if one.line.measured == "peer"
    }
    listed = set()
    for (task, _), (_, stages) in _qualities(recorded).items():
        for stage, means in stages.items():
            key = ("search" if task == "search" else "recommend", stage)
            found = [shown(means.get(metric)) for metric in metrics]
            rows.append([task.replace("_", " "), _stage_name(stage), *_cost(costs.get(key), found)])
            listed.add(key)
    for (task, peer), line in costs.items():
        if (task, peer) not in listed:
            rows.append([task, stage_label(peer), *_cost(line, ["–"] * len(metrics))])
    return rows


def _cost(line: Line | None, found: Sequence[str]) -> list[str]:
    """The chosen settings, the figures of quality, and the costs."""
    if line is None:
        return ["–", *found, *("–" for _ in COSTS)]
    return [line.labels["chosen"], *found, *(number(line.costs.get(name)) for name in COSTS)]


def _slices(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every slice: our stages that were run for all its requests, and the best baseline."""
    parts: dict[tuple[str, str], dict[str, Line]] = {}
    for line in (one.line for one in recorded if OF not in one.line.labels):
        parts.setdefault((line.labels["task"], line.labels["slice"]), {})[line.labels["stage"]] = line
    rows = [["task", "slice", "n", "stage", *map(heading, SLICED)]]
    for (task, part), stages in parts.items():
        others = sorted(set(stages) - set(OURS), key=lambda stage: -(stages[stage].summary["ndcg@10"] or 0.0))
        n = max(line.summary["n"] or 0.0 for line in stages.values())
        own = [
            stage
            for stage in ("retrieval", "fused", "features", "final")
            if stage in stages and stages[stage].summary["n"] == n
        ]
        for stage in [*own, *others[:1]]:
            summary = stages[stage].summary
            figures = [shown(summary.get(metric)) for metric in SLICED]
            rows.append(
                [
                    task.replace("_", " "),
                    slice_label(part),
                    number(summary["n"]),
                    _stage_name(stage),
                    *figures,
                ]
            )
    return rows


def _frontier(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every task: the first strategy, which the others are compared with, and the Pareto front."""
    heads = ["task", "strategy", "median ms", "times faster", "nDCG@10 lift", "low", "high", "share of full lift"]
    weighed = any("reweighed" in one.line.summary for one in recorded)
    heads += ["weights alone"] if weighed else []
    rows, tasks = [heads], dict[str, list[Line]]()
    for line in (one.line for one in recorded):
        tasks.setdefault(line.labels["task"], []).append(line)
    for task, lines in tasks.items():
        for line in [lines[0], *pareto_front(lines)]:
            names = ("times faster", "lift", "low", "high", "kept", *(["reweighed"] if weighed else []))
            figures = [line.summary.get(name) for name in names]
            row = [task, line.labels["way"], number(line.median), *map(number, figures)]
            rows += [row] if row not in rows else []
    return rows


def pareto_front(lines: Sequence[Line]) -> list[Line]:
    """The strategies of reranking that no other one beats in both lift and time, the slowest first."""
    front: list[Line] = []
    for line in sorted(lines, key=lambda line: (line.median or 0.0, -(line.summary["lift"] or 0.0))):
        if not front or (line.summary["lift"] or 0.0) > (front[-1].summary["lift"] or 0.0):
            front.append(line)
    return front[::-1]


def _index(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every kind of index with its fastest setting whose recall is ENOUGH, or else the setting of the best recall."""
    builds = {one.line.labels["kind"]: one.line.summary for one in recorded if one.line.measured == "index, built"}
    kinds: dict[str, dict[str, dict[str, Line]]] = {}
    for line in (one.line for one in recorded if one.line.measured == "index"):
        settings = kinds.setdefault(line.labels["kind"], {})
        settings.setdefault(line.labels["setting"], {})[line.labels["asked"]] = line
    modes = list(dict.fromkeys(mode for kind in kinds.values() for lines in kind.values() for mode in lines))
    rows = [["kind", "setting", f"recall@{K}", *(f"a second, {mode}" for mode in modes), "build s", "MB"]]
    for kind, settings in kinds.items():
        setting, lines = max(settings.items(), key=lambda one: _worth(next(iter(one[1].values()))))
        rates = [number(lines[mode].summary["per second"] if mode in lines else None) for mode in modes]
        cost = [number(builds.get(kind, {}).get(name)) for name in ("build s", "MB")]
        rows.append([kind, setting, number(next(iter(lines.values())).summary["recall"]), *rates, *cost])
    return rows


def _worth(line: Line) -> tuple[float, float]:
    """How a setting of an index is ranked among its kind: by recall up to ENOUGH, then by rate."""
    recall, rate = line.summary["recall"] or 0.0, line.summary["per second"] or 0.0
    return min(recall, ENOUGH), rate


def _of(measured: str, heads: Sequence[str], labels: Sequence[str], figures: Sequence[str]) -> Table:
    """A table with a row for each line of a kind: some labels, then some figures."""

    def table(recorded: Sequence[Recorded]) -> list[list[str]]:
        rows = [list(heads)]
        for one in recorded:
            if one.line.measured == measured:
                names = [one.line.labels[label] for label in labels]
                values = {**one.line.summary, "median": one.line.median}
                rows.append([*names, *(number(values.get(name)) for name in figures)])
        return rows

    return table


TABLES: Mapping[str, Table] = {
    "latency": _latency,
    "load": _load,
    "quality": _quality,
    "peers": _peers,
    "slices": _slices,
    "encode": _of(
        "encode",
        ("texts", "run by", "a second", "times faster", "median cosine", "recall@100"),
        ("texts", "way"),
        ("median", "times faster", "median cosine", "recall@100"),
    ),
    "searched": _of(
        "encode, search",
        ("queries", "items encoded in", "n", "recall@100", "change", "low", "high"),
        ("queries", "way"),
        ("n", "mean", "change", "low", "high"),
    ),
    "rerank": _of(
        "rerank",
        ("candidates", "cores", "run by", "median ms", "times faster"),
        ("pairs", "cores", "way"),
        ("median", "times faster"),
    ),
    "frontier": _frontier,
    "index": _index,
    "train": _of(
        "train",
        ("part", "unit", "a second", "total", "seconds", "peak MB", "peak GPU MB"),
        ("part", "counted"),
        ("per second", "done", "seconds", "peak MB", "peak GPU MB"),
    ),
}
# The kinds of lines that a table is made of, where they are not its own name.
MADE_OF = {
    "peers": ("peer", "quality"), "slices": ("slice",), "searched": ("encode, search",),
    "index": ("index", "index, built"),
}  # fmt: skip
