"""What stands where on the page of results: every section is made of the lines that it is about, or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks import charts
from benchmarks.charts import LoadPoint
from benchmarks.compare import compared
from benchmarks.index_curves import K as INDEX_K
from benchmarks.latency import WHOLE
from benchmarks.results import PERCENTILES, Line, Recorded
from benchmarks.show import number
from benchmarks.throughput import THEIRS
from serving.figures import Interval, recall_curves, stage_dots
from serving.pareto import IndexPoint, Pareto
from serving.report_view import Chart
from serving.tables import OURS, SLICES, heading, said, shown

LEADING = "ndcg@10"
TABLED = ("recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@10", "value_recall@10")
METRICS = {"value_recall@10": "R@10 in money"}
COSTS = ("build s", "MB", "p50 ms", "p90 ms", "per second")
TASKS = {
    "seen_removed": "recommendation, what was bought before removed",
    "seen_kept": "recommendation, what was bought before kept",
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


class Measured(NamedTuple):
    """The quality of every stage and peer in one task of one data set: figures by stage and metric."""

    data: str
    task: str
    n: int
    stages: Mapping[str, Mapping[str, Line]]

    def mean(self, stage: str, metric: str) -> float | None:
        """The mean of a stage, None where it was not measured."""
        line = self.stages[stage].get(metric)
        return None if line is None else line.summary.get("mean")

    def whole(self, stage: str) -> bool:
        """Whether a stage was run for all requests, and not for a sample of them."""
        return any(line.summary.get("n") == self.n for line in self.stages[stage].values())

    def best(self, metric: str, *, ours: bool) -> str | None:
        """The best of our stages or of all else, None where there is none; of those that were asked everything."""
        side = {
            stage: value
            for stage in self.stages
            if (stage in OURS) == ours and self.whole(stage) and (value := self.mean(stage, metric)) is not None
        }
        return max(side, key=side.__getitem__) if side else None


def lead(recorded: Sequence[Recorded]) -> list[Sentence]:
    """What is better than ours, first; then where ours is better."""
    found = []
    for one in _measured(recorded):
        sides: dict[bool, list[str]] = {True: [], False: []}
        for metric in (LEADING, "recall@100"):
            own, other = one.best(metric, ours=True), one.best(metric, ours=False)
            if own is None or other is None:
                continue
            ours, theirs = one.mean(own, metric) or 0.0, one.mean(other, metric) or 0.0
            text = f"{heading(metric)} {shown(theirs)} of {said(other)} against {shown(ours)} of ours ({said(own)})"
            sides[theirs > ours].append(text)
        title = f"{one.data}, {TASKS.get(one.task, one.task)}"
        found += [Sentence(f"{title}: {'; '.join(texts)}.", loses) for loses, texts in sides.items() if texts]
    return sorted(found, key=lambda sentence: not sentence.loses)


def tiles(recorded: Sequence[Recorded]) -> list[Tile]:
    """The figures that a reader asks for first."""
    found = []
    for one in _of(recorded, "latency"):
        if one.line.labels["stage"] == WHOLE and one.line.labels["call"] in ("recommend", "search"):
            name, value = _highest(one.line)
            note = f"{name} {number(value)} ms of {number(one.line.summary['n'])} calls, one after another, warm"
            found.append(
                Tile(f"{number(one.line.summary['p50'])} ms", f"median of a call: {one.line.labels['call']}", note)
            )
    for one in _of(recorded, "highest rate"):
        labels = one.line.labels
        note = f"{labels['call']}; arrivals that do not wait, latency from when each was due"
        figure = f"{number(one.line.summary['rate'])} a second"
        found.append(Tile(figure, f"with {labels['percentile']} under {labels['bound ms']} ms", note))
    return found[:3]


def sections(recorded: Sequence[Recorded], before: Sequence[Recorded] = ()) -> list[Section]:
    """Every section that there are results for, in the order of the page."""
    made: list[Section | None] = [
        *(_quality(one) for one in _measured(recorded)),
        _peers(recorded), _funnel(recorded), _index(recorded), _latency(recorded), _load(recorded), _sweeps(recorded),
        _models(recorded), _changes(recorded, before),
    ]  # fmt: skip
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


def _measured(recorded: Sequence[Recorded]) -> list[Measured]:
    groups: dict[tuple[str, str], dict[str, dict[str, Line]]] = {}
    for one in _of(recorded, "quality"):
        labels = one.line.labels
        place = groups.setdefault((one.run.data.get("data", ""), labels["task"]), {})
        place.setdefault(labels["stage"], {})[labels["metric"]] = one.line
    found = []
    for (data, task), stages in groups.items():
        counts = [line.summary.get("n") or 0 for figures in stages.values() for line in figures.values()]
        found.append(Measured(data, task, int(max(counts)), stages))
    return found


def _quality(one: Measured) -> Section:
    curves, dots, spreads = {}, {}, {}
    for stage, figures in one.stages.items():
        if not one.whole(stage):
            continue
        cuts = {int(metric.partition("@")[2]): line for metric, line in figures.items() if metric.startswith("recall@")}
        curve = {k: value for k, line in cuts.items() if k >= 5 and (value := line.summary["mean"]) is not None}
        if curve:
            curves[stage] = curve
        if (line := figures.get(LEADING)) is not None and (mean := line.summary["mean"]) is not None:
            dots[stage] = mean
            low, high = line.summary.get("low"), line.summary.get("high")
            if low is not None and high is not None:
                spreads[stage] = Interval(mean, low, high)
    drawn = [
        Chart("Recall", "the share of targets among the first k", recall_curves(curves)),
        Chart("nDCG@10", "with 95 % intervals", stage_dots(dots, spreads, "nDCG@10")),
    ]
    columns = [metric for metric in TABLED if any(metric in figures for figures in one.stages.values())]
    rows = []
    for stage in sorted(one.stages, key=lambda stage: -(one.mean(stage, LEADING) or 0.0)):
        n = next(iter(one.stages[stage].values())).summary.get("n")
        cells = [shown(one.mean(stage, metric)) for metric in columns]
        rows.append(Row([said(stage), number(n), *cells], stage in OURS))
    title = f"{one.data}: {TASKS.get(one.task, one.task)}"
    lede = f"{one.n:,} requests of the test fold, the whole catalogue ranked for each; ours in colour."
    return Section(
        title,
        lede,
        drawn,
        [Table("", ["", "n", *(METRICS.get(metric) or heading(metric) for metric in columns)], rows)],
    )


def _peers(recorded: Sequence[Recorded]) -> Section | None:
    lines = _of(recorded, "peer")
    if not lines:
        return None
    columns = [name for name in COSTS if any(name in one.line.summary for one in lines)]
    rows = []
    for one in lines:
        labels = one.line.labels
        about = [said(labels["peer"]), one.run.data.get("data", ""), labels["task"], labels["chosen"]]
        figures = [number(one.line.summary.get(name)) for name in columns]
        rows.append(Row([*about, *figures], labels["peer"].startswith("shortlist")))
    times = {
        f"{said(one.line.labels['peer'])} ({one.line.labels['task']})": value
        for one in lines
        if (value := one.line.summary.get("p50 ms")) is not None
    }
    ours = frozenset(name for name in times if name.startswith("shortlist"))
    drawn = [Chart("One request", "median milliseconds, a hundred items each", charts.dots(times, "ms", ours))]
    lede = "What a shop would write instead, each as its own documentation has it: what it costs to build and to ask."
    return Section("Peers", lede, drawn, [Table("", ["", "data", "task", "chosen", *columns], rows)])


def _funnel(recorded: Sequence[Recorded]) -> Section | None:
    lines = _of(recorded, "funnel")
    if not lines:
        return None
    head = ["data and task", *lines[0].line.summary]
    rows = [
        Row([f"{one.run.data.get('data', '')}, {TASKS.get(one.line.labels['task'], one.line.labels['task'])}",
             *(number(one.line.summary.get(step)) for step in head[1:])])
        for one in lines
    ]  # fmt: skip
    drawn = []
    for one in lines:
        lost = {step: value for step, value in one.line.summary.items() if step != "targets" and value is not None}
        title = f"{one.run.data.get('data', '')}: {TASKS.get(one.line.labels['task'], one.line.labels['task'])}"
        drawn.append(
            Chart(title, "targets by what became of them", charts.bars(lost, "targets", frozenset({"answered"})))
        )
    lede = "Every target that was not among the first ten counts once, at the first step that lost it."
    return Section("Where targets are lost", lede, drawn, [Table("All counts", head, rows, folded=True)])


def _index(recorded: Sequence[Recorded]) -> Section | None:
    lines = _of(recorded, "index")
    if not lines:
        return None
    drawn = []
    for asked in dict.fromkeys(one.line.labels["asked"] for one in lines):
        kinds: dict[str, list[IndexPoint]] = {}
        for one in lines:
            if one.line.labels["asked"] == asked:
                point = IndexPoint(one.line.summary["recall"] or 0.0, one.line.summary["per second"] or 0.0)
                kinds.setdefault(one.line.labels["kind"], []).append(point)
        drawn.append(Chart(f"Queries {asked}", "up and to the right is better", Pareto(kinds, INDEX_K).svg()))
    lede = "Recall against exact search over the bundle's own vectors, for real user vectors."
    return Section("Indexes", lede, drawn, [_plain_table("All settings", lines, folded=True)])


def _latency(recorded: Sequence[Recorded]) -> Section | None:
    lines = _of(recorded, "latency")
    if not lines:
        return None
    stages: dict[str, dict[str, float]] = {}
    for one in lines:
        if one.line.labels["stage"] != WHOLE:
            stages.setdefault(one.line.labels["call"], {})[one.line.labels["stage"]] = one.line.summary["p50"] or 0.0
    cold = _of(recorded, "first answer of a process")
    lede = "One call after another in a warm process."
    if cold:
        seconds = number(cold[-1].line.summary["p50"])
        lede += f" The first answer of a fresh process takes {seconds} s, interpreter included."
    drawn = [Chart("Where the time goes", "medians by stage", charts.waterfall(stages))]
    return Section("Latency", lede, drawn, [_plain_table("All percentiles, ms", lines, folded=True)])


def _load(recorded: Sequence[Recorded]) -> Section | None:
    lines = _of(recorded, "load")
    if not lines:
        return None
    points: dict[str, list[LoadPoint]] = {"open": [], "closed": []}
    for one in lines:
        rate = one.line.summary.get("answered per second") or 0.0
        points[one.line.labels["load"]].append(LoadPoint(rate, one.line.summary["p50"] or 0.0, _highest(one.line)[1]))
    bound = next((float(one.line.labels["bound ms"]) for one in _of(recorded, "highest rate")), None)
    opened = sorted(points["open"])
    drawn = [
        Chart("Load", "latency counts from when a request was due", charts.load_curve(opened, points["closed"], bound))
    ]
    lede = (
        "Arrivals come at a fixed rate whether or not earlier ones were answered, so that waiting in line is seen; "
        "callers who wait for each answer hide it."
    )
    names = {"open": "Arrivals", "closed": "Callers who wait"}
    parts = {name: [one for one in lines if one.line.labels["load"] == kind] for kind, name in names.items()}
    tables = [_plain_table(name, some, folded=True) for name, some in parts.items() if some]
    return Section("Under load", lede, drawn, tables)


def _sweeps(recorded: Sequence[Recorded]) -> Section | None:
    lines = [one for one in _of(recorded, "sweep") if one.line.labels["stage"] == WHOLE]
    if not lines:
        return None
    return Section("Settings", "The same calls under one setting after another.", (), [_plain_table("", lines)])


def _models(recorded: Sequence[Recorded]) -> Section | None:
    drawn, tables = [], []
    for measured, label in (("rerank", "pairs"), ("encode", "texts")):
        lines = _of(recorded, measured)
        if not lines:
            continue
        names: dict[str, float] = {}
        for one in lines:
            where = f", {cores} core{'s' if cores != '1' else ''}" if (cores := one.line.labels.get("cores")) else ""
            if one.line.labels["way"] != THEIRS:
                names[
                    f"{one.line.labels['way']}, {one.line.labels[label]} {label if measured == 'rerank' else ''}{where}"
                ] = one.line.summary["times faster"] or 0.0
        title = {"rerank": "Reranking", "encode": "Encoding"}[measured]
        drawn.append(
            Chart(title, f"times as fast as {THEIRS}", charts.bars(names, "times as fast", frozenset(names), 1.0))
        )
        tables.append(_plain_table(f"{title}, {lines[0].line.unit}", lines, folded=True))
    lede = "The same model and texts, every way of running it in turn, theirs with the settings of its documentation."
    return Section("Models", lede, drawn, tables) if drawn else None


def _changes(recorded: Sequence[Recorded], before: Sequence[Recorded]) -> Section | None:
    if not before:
        return None
    rows = [
        Row([one.measured, ", ".join(one.labels.values()), number(one.before), number(one.after),
             f"{one.ratio - 1:+.1%}", number(one.p), one.verdict], one.verdict != "same")
        for one in compared(before, recorded)
    ]  # fmt: skip
    head = ["measured", "which", "before", "after", "change", "p (Holm)", ""]
    return Section(
        "Before and after",
        "A change is one of more than 5 % with p < .01 after Holm's correction.",
        (),
        [Table("", head, rows)],
    )


def _plain_table(title: str, lines: Sequence[Recorded], *, folded: bool = False) -> Table:
    labels = list(dict.fromkeys(name for one in lines for name in one.line.labels))
    columns = list(dict.fromkeys(name for one in lines for name in one.line.summary))
    rows = [
        Row([SLICES.get(value := one.line.labels.get(name, ""), value) for name in labels]
            + [number(one.line.summary.get(name)) for name in columns])
        for one in lines
    ]  # fmt: skip
    return Table(title, [*labels, *columns], rows, folded)


def _highest(line: Line) -> tuple[str, float]:
    """The highest percentile that a line has."""
    name = next(name for name in reversed(PERCENTILES) if name in line.summary)
    return name, line.summary[name] or 0.0


def _of(recorded: Sequence[Recorded], measured: str) -> list[Recorded]:
    return [one for one in recorded if one.line.measured == measured]
