"""Tables of README and docs/measured.md, written from committed results, so that no figure in them is copied by hand.

A table stands between `<!-- bench KIND FILE -->` and `<!-- /bench -->`, made of `benchmarks/results/FILE.jsonl`.
`<!-- bench slices FILE NAME,NAME -->` shows the named slices alone. Below stands every run that a row comes from.
`<!-- bench headline NAME,NAME -->` is the small table of README: see `benchmarks.reporting.headline`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks.latency.by_stage import WHOLE
from benchmarks.quality.recall import SLICED
from benchmarks.reporting.headline import headline
from benchmarks.result_lines import PERCENTILES, Line, Recorded, Run, latest, read
from benchmarks.terminal import number
from benchmarks.vector_index.curves import K
from retrieval.errors import BadData
from serving.reporting.tables import OURS, SLICES, heading, shown, stage_label

RESULTS = Path(__file__).parents[1] / "results"
Table: TypeAlias = Callable[[Sequence[Recorded]], list[list[str]]]
MARKED = re.compile(
    r"(<!-- bench (?P<kind>\S+) (?P<file>\S+)(?: (?P<only>\S+))? -->\n).*?(?P<end><!-- /bench -->)", re.DOTALL
)
QUALITY = ("recall@10", "recall@100", "ndcg@10", "mrr@10")
HEADLINE = "headline"
ENOUGH = 0.95  # of the nearest, that an index is to find
COSTS = ("build s", "MB", "median ms", "per second")


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """The text with every table between markers made anew.

    Raises BadData for a kind of table that is not known, and for a file of results that is not there.
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
        raise BadData(f"<!-- bench {kind} ... -->: no such table; there are {', '.join([*TABLES, HEADLINE])}")
    made_of = MADE_OF.get(kind, (kind,))
    shown = [one for one in latest(read(stem.with_name(f"{stem.name}.jsonl"))) if one.line.measured in made_of]
    shown = [one for one in _of_all_requests(shown) if only == [""] or one.line.labels.get("slice") in only]
    if not any(one.line.measured == made_of[0] for one in shown):
        named = "" if only == [""] else f" of {marker['only']}"
        raise BadData(f"{stem}.jsonl: holds nothing of {made_of[0]}{named}; measure it, or take the table out")
    lines = _markdown(TABLES[kind](shown))
    runs = {one.run.date + one.run.command: one.run for one in sorted(shown, key=lambda one: one.run.date)}
    return "\n".join([*lines, "", *map(_said, runs.values())])


def _said(run: Run) -> str:
    """How a run is repeated, and what it was made on."""
    machine = (run.machine.get("gpu"), run.machine.get("processor"), f"{run.machine.get('cores', '?')} cores")
    return f"`{run.command}`; commit {run.commit}, {run.date[:10]}, {', '.join(filter(None, machine))}."


def _of_all_requests(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Without qualities of a mere sample of a task's requests, or of none."""
    most: dict[str, float] = {}
    for one in recorded:
        if one.line.measured == "quality":
            most[one.line.labels["task"]] = max(most.get(one.line.labels["task"], 0.0), one.line.summary["n"] or 0.0)
    return [
        one
        for one in recorded
        if one.line.measured != "quality"
        or (one.line.summary["mean"] is not None and one.line.summary["n"] == most[one.line.labels["task"]])
    ]


def _latency(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Every kind of call: the whole, and medians by stage."""
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
    """Every task and stage, the best of each task first, those of the same figures in one row."""
    rows = [["task", "stage", *map(heading, QUALITY)]]
    for task, (n, stages) in _qualities(recorded).items():
        names: dict[tuple[str, ...], list[str]] = {}
        for stage, means in stages.items():
            figures = tuple(shown(means.get(metric)) for metric in QUALITY)
            names.setdefault(figures, []).append(_named(stage))
        for figures, alike in names.items():
            rows.append([f"{task.replace('_', ' ')}, n = {n:,.0f}", ", ".join(alike), *figures])
    return rows


def _qualities(recorded: Sequence[Recorded]) -> dict[str, tuple[float, dict[str, dict[str, float]]]]:
    """By task the number of its requests, and the means of each stage, the best stage first."""
    tasks: dict[str, tuple[float, dict[str, dict[str, float]]]] = {}
    for line in (one.line for one in recorded if one.line.measured == "quality"):
        _, stages = tasks.setdefault(line.labels["task"], (line.summary["n"] or 0.0, {}))
        stages.setdefault(line.labels["stage"], {})[line.labels["metric"]] = line.summary["mean"] or 0.0
    return {task: (n, _best_first(stages)) for task, (n, stages) in tasks.items()}


def _best_first(stages: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return dict(sorted(stages.items(), key=lambda stage: -stage[1].get("ndcg@10", 0.0)))


def _named(stage: str) -> str:
    return f"**{stage_label(stage)}**" if stage in OURS else stage_label(stage)


def _peers(recorded: Sequence[Recorded]) -> list[list[str]]:
    """What each peer finds in every task, the best first, and what it costs; then what was timed alone."""
    metrics = ("recall@10", "recall@100", "ndcg@10")
    rows = [["task", "peer", "chosen", *map(heading, metrics), *COSTS]]
    costs = {
        (one.line.labels["task"], one.line.labels["peer"]): one.line for one in recorded if one.line.measured == "peer"
    }
    told = set()
    for task, (_, stages) in _qualities(recorded).items():
        for stage, means in stages.items():
            asked = ("search" if task == "search" else "recommend", stage)
            found = [shown(means.get(metric)) for metric in metrics]
            rows.append([task.replace("_", " "), _named(stage), *_cost(costs.get(asked), found)])
            told.add(asked)
    for (task, peer), line in costs.items():
        if (task, peer) not in told:
            rows.append([task, stage_label(peer), *_cost(line, ["–"] * len(metrics))])
    return rows


def _cost(line: Line | None, found: Sequence[str]) -> list[str]:
    """What was chosen, the figures of quality between, and what it costs."""
    if line is None:
        return ["–", *found, *("–" for _ in COSTS)]
    return [line.labels["chosen"], *found, *(number(line.costs.get(name)) for name in COSTS)]


def _slices(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Of each slice our stages, as far as they read all of its requests, and the best of all else."""
    parts: dict[tuple[str, str], dict[str, Line]] = {}
    for line in (one.line for one in recorded):
        parts.setdefault((line.labels["task"], line.labels["slice"]), {})[line.labels["stage"]] = line
    rows = [["task", "slice", "n", "stage", *map(heading, SLICED)]]
    for (task, part), stages in parts.items():
        others = sorted(set(stages) - set(OURS), key=lambda stage: -(stages[stage].summary["ndcg@10"] or 0.0))
        n = max(line.summary["n"] or 0.0 for line in stages.values())
        own = [
            stage for stage in ("retrieval", "fused", "final") if stage in stages and stages[stage].summary["n"] == n
        ]
        for stage in [*own, *others[:1]]:
            summary = stages[stage].summary
            figures = [shown(summary.get(metric)) for metric in SLICED]
            rows.append(
                [
                    task.replace("_", " "),
                    SLICES.get(part, stage_label(part)),
                    number(summary["n"]),
                    _named(stage),
                    *figures,
                ]
            )
    return rows


def _frontier(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Of each task the first way, which the others are measured against, and those that no quicker one equals."""
    heads = ("task", "way", "median ms", "times faster", "lift of nDCG@10", "low", "high", "share kept")
    rows, tasks = [list(heads)], dict[str, list[Line]]()
    for line in (one.line for one in recorded):
        tasks.setdefault(line.labels["task"], []).append(line)
    for task, lines in tasks.items():
        for line in [lines[0], *pareto_front(lines)]:
            figures = [line.summary.get(name) for name in ("times faster", "lift", "low", "high", "kept")]
            row = [task, line.labels["way"], number(line.median), *map(number, figures)]
            rows += [row] if row not in rows else []
    return rows


def pareto_front(lines: Sequence[Line]) -> list[Line]:
    """Ways of reranking that no way as quick or quicker equals in lift, the slowest first."""
    front: list[Line] = []
    for line in sorted(lines, key=lambda line: (line.median or 0.0, -(line.summary["lift"] or 0.0))):
        if not front or (line.summary["lift"] or 0.0) > (front[-1].summary["lift"] or 0.0):
            front.append(line)
    return front[::-1]


def _index(recorded: Sequence[Recorded]) -> list[list[str]]:
    """Of each kind of index the setting that answers one query the quickest of those that find ENOUGH of the nearest,
    or its most exact one."""
    made = {one.line.labels["kind"]: one.line.summary for one in recorded if one.line.measured == "index, built"}
    kinds: dict[str, dict[str, dict[str, Line]]] = {}
    for line in (one.line for one in recorded if one.line.measured == "index"):
        settings = kinds.setdefault(line.labels["kind"], {})
        settings.setdefault(line.labels["setting"], {})[line.labels["asked"]] = line
    asked = list(dict.fromkeys(way for kind in kinds.values() for lines in kind.values() for way in lines))
    rows = [["kind", "setting", f"recall@{K}", *(f"a second, {way}" for way in asked), "build s", "MB"]]
    for kind, settings in kinds.items():
        setting, lines = max(settings.items(), key=lambda one: _worth(next(iter(one[1].values()))))
        rates = [number(lines[way].summary["per second"] if way in lines else None) for way in asked]
        cost = [number(made.get(kind, {}).get(name)) for name in ("build s", "MB")]
        rows.append([kind, setting, number(next(iter(lines.values())).summary["recall"]), *rates, *cost])
    return rows


def _worth(line: Line) -> tuple[float, float]:
    """How a setting of an index compares with others of its kind: by its rate, once it finds ENOUGH."""
    recall, rate = line.summary["recall"] or 0.0, line.summary["per second"] or 0.0
    return min(recall, ENOUGH), rate


def _of(measured: str, heads: Sequence[str], labels: Sequence[str], figures: Sequence[str]) -> Table:
    """A table with a row for each line of a kind: some of its labels, then some of its figures."""

    def table(recorded: Sequence[Recorded]) -> list[list[str]]:
        rows = [list(heads)]
        for one in recorded:
            if one.line.measured == measured:
                told = [one.line.labels[label] for label in labels]
                rows.append(
                    [
                        *told,
                        *(
                            number(one.line.median if name == "median" else one.line.summary.get(name))
                            for name in figures
                        ),
                    ]
                )
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
        ("texts", "way", "a second", "times faster", "median cosine", "recall@100"),
        ("texts", "way"),
        ("median", "times faster", "median cosine", "recall@100"),
    ),
    "searched": _of(
        "encode, search",
        ("queries", "items read in", "n", "recall@100", "change", "low", "high"),
        ("queries", "way"),
        ("n", "mean", "change", "low", "high"),
    ),
    "rerank": _of(
        "rerank",
        ("candidates", "cores", "way", "median ms", "times faster"),
        ("pairs", "cores", "way"),
        ("median", "times faster"),
    ),
    "frontier": _frontier,
    "index": _index,
    "train": _of(
        "train",
        ("part", "counted", "a second", "done", "seconds", "peak MB", "of the GPU"),
        ("part", "counted"),
        ("per second", "done", "seconds", "peak MB", "peak GPU MB"),
    ),
}
# Tables of lines of other names than their own.
MADE_OF = {
    "peers": ("peer", "quality"), "slices": ("slice",), "searched": ("encode, search",),
    "index": ("index", "index, built"),
}  # fmt: skip
