"""What the page says of quality: stages and peers of each task, slices, what is beyond accuracy, lost targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.reporting import charts
from benchmarks.reporting.blocks import TASKS, Row, Section, Sentence, Table, of, plain_table, source
from benchmarks.result_lines import Line, Recorded
from benchmarks.terminal import number
from serving.reporting.charts import Interval, recall_curves, stage_dots
from serving.reporting.report_view import Chart
from serving.reporting.tables import OURS, SLICES, heading, said, shown

LEADING = "ndcg@10"
TABLED = (
    "recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@10", "hit_rate@10", "repeat_recall@10", "value_recall@10"
)  # fmt: skip
METRICS = {
    "hit_rate@10": "hit rate@10", "repeat_recall@10": "R@10 of repeats", "value_recall@10": "R@10 in money"
}  # fmt: skip
SLICED = ("recall@10", "recall@100", "ndcg@10")
COSTS = {"median ms": "median ms", "build s": "seconds to build", "MB": "MB"}
COST_COLUMNS = ("build s", "choose s", "MB", "median ms", "p90 ms", "per second")


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
    found = _dearer(recorded)
    for one in measured(recorded):
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


def _dearer(recorded: Sequence[Recorded]) -> list[Sentence]:
    """Where a peer costs less than ours: the cheapest of each cost against our cheapest of the same task."""
    found, groups = list[Sentence](), dict[tuple[str, str], list[Recorded]]()
    for one in of(recorded, "peer"):
        groups.setdefault((source(one), one.line.labels["task"]), []).append(one)
    for (data, task), lines in groups.items():
        texts = []
        for cost, unit in COSTS.items():
            known = {one.line.labels["peer"]: value for one in lines if (value := one.line.costs.get(cost)) is not None}
            ours = min((value for peer, value in known.items() if peer.startswith("shortlist")), default=None)
            theirs = {peer: value for peer, value in known.items() if not peer.startswith("shortlist")}
            best = min(theirs, key=theirs.__getitem__, default=None)
            if ours is not None and best is not None and theirs[best] < ours:
                texts.append(f"{number(theirs[best])} {unit} of {said(best)} against {number(ours)} of ours")
        if texts:
            found.append(Sentence(f"{data}, {TASKS.get(task, task)}: {'; '.join(texts)}.", True))
    return found


def measured(recorded: Sequence[Recorded]) -> list[Measured]:
    """Each task of each data set."""
    groups: dict[tuple[str, str], dict[str, dict[str, Line]]] = {}
    for one in of(recorded, "quality"):
        labels = one.line.labels
        place = groups.setdefault((source(one), labels["task"]), {})
        place.setdefault(labels["stage"], {})[labels["metric"]] = one.line
    found = []
    for (data, task), stages in groups.items():
        counts = [line.summary.get("n") or 0 for figures in stages.values() for line in figures.values()]
        found.append(Measured(data, task, int(max(counts)), stages))
    return found


def sections(recorded: Sequence[Recorded]) -> list[Section | None]:
    """Each task, then slices, what is beyond accuracy, peers and lost targets; None without results."""
    return [
        *(_quality(one) for one in measured(recorded)),
        _slices(recorded), _beyond(recorded), _peers(recorded), _funnel(recorded),
    ]  # fmt: skip


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
    for stage in sorted(one.stages, key=lambda stage: (not one.whole(stage), -(one.mean(stage, LEADING) or 0.0))):
        n = next(iter(one.stages[stage].values())).summary.get("n")
        name = said(stage) if one.whole(stage) else f"{said(stage)}, of a sample"
        cells = [shown(one.mean(stage, metric)) for metric in columns]
        rows.append(Row([name, number(n), *cells], stage in OURS))
    title = f"{one.data}: {TASKS.get(one.task, one.task)}"
    lede = f"{one.n:,} requests of the test fold, the whole catalogue ranked for each; ours in colour."
    return Section(
        title,
        lede,
        drawn,
        [Table("", ["", "n", *(METRICS.get(metric) or heading(metric) for metric in columns)], rows)],
    )


def _slices(recorded: Sequence[Recorded]) -> Section | None:
    groups: dict[tuple[str, str], list[Line]] = {}
    for one in of(recorded, "slice"):
        groups.setdefault((source(one), one.line.labels["task"]), []).append(one.line)
    if not groups:
        return None
    drawn, tables = [], []
    for (data, task), lines in groups.items():
        title = f"{data}: {TASKS.get(task, task)}"
        stages = dict.fromkeys(line.labels["stage"] for line in lines)
        ours = [stage for stage in ("fused", "retrieval") if stage in stages][:1]
        best: dict[str, dict[str, Interval]] = {}
        rows = []
        for line in lines:
            name = line.labels["slice"]
            told, stage = SLICES.get(name, said(name)), line.labels["stage"]
            if stage in ours and (point := _interval(line)) is not None:
                best.setdefault(told, {})[stage] = point
            ends = [number(line.summary.get("n")), *(_with_bounds(line, metric) for metric in SLICED)]
            rows.append(Row([told, said(stage), *ends], stage in OURS))
        for stage in ours:
            points = {told: found[stage] for told, found in best.items() if stage in found}
            if points:
                text = f"nDCG@10 of {said(stage)}, with 95 % intervals where they were measured"
                drawn.append(Chart(title, text, charts.interval_dots(points, "nDCG@10")))
        head = ["slice", "stage", "n", *map(heading, SLICED)]
        tables.append(Table(f"Every stage, {title}", head, rows, folded=True))
    lede = "Some of the requests, or of what they were for: where an average hides who is served well."
    return Section("Slices", lede, drawn, tables)


def _beyond(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "beyond accuracy")
    if not lines:
        return None
    tables = []
    for data, task in dict.fromkeys((source(one), one.line.labels["task"]) for one in lines):
        stages: dict[str, dict[str, float | None]] = {}
        for one in lines:
            labels = one.line.labels
            if (source(one), labels["task"]) == (data, task):
                stages.setdefault(labels["stage"], {})[labels["figure"]] = one.line.summary["value"]
        columns = list(dict.fromkeys(figure for figures in stages.values() for figure in figures))
        rows = [
            Row([said(stage), *(number(figures.get(column)) for column in columns)], stage in OURS)
            for stage, figures in stages.items()
        ]
        head = ["", *(column.replace("_", " ") for column in columns)]
        tables.append(Table(f"{data}: {TASKS.get(task, task)}", head, rows))
    if exposed := of(recorded, "exposure"):
        tables.append(plain_table("Exposure of the most wanted groups", exposed, folded=True))
    lede = (
        "Of the first ten items. A gap of 0 shows every group as often as it is wanted; bias of 1 is that of shoppers."
    )
    return Section("Beyond accuracy", lede, (), tables)


def _peers(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "peer")
    if not lines:
        return None
    columns = [name for name in COST_COLUMNS if any(name in one.line.costs for one in lines)]
    rows = []
    for one in lines:
        labels = one.line.labels
        about = [said(labels["peer"]), source(one), labels["task"], labels["chosen"]]
        figures = [number(one.line.costs.get(name)) for name in columns]
        rows.append(Row([*about, *figures], labels["peer"].startswith("shortlist")))
    times = {
        f"{said(one.line.labels['peer'])} ({one.line.labels['task']})": value
        for one in lines
        if (value := one.line.costs.get("median ms")) is not None
    }
    ours = frozenset(name for name in times if name.startswith("shortlist"))
    drawn = [Chart("One request", "median milliseconds, a hundred items each", charts.dots(times, "ms", ours))]
    lede = "What a shop would write instead, each as its own documentation has it: what it costs to build and to ask."
    return Section("Peers", lede, drawn, [Table("", ["", "data", "task", "chosen", *columns], rows)])


def _funnel(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "funnel")
    if not lines:
        return None
    head = ["data and task", *lines[0].line.summary]
    rows = [
        Row([f"{source(one)}, {TASKS.get(one.line.labels['task'], one.line.labels['task'])}",
             *(number(one.line.summary.get(step)) for step in head[1:])])
        for one in lines
    ]  # fmt: skip
    drawn = []
    for one in lines:
        lost = {step: value for step, value in one.line.summary.items() if step != "targets" and value is not None}
        title = f"{source(one)}: {TASKS.get(one.line.labels['task'], one.line.labels['task'])}"
        drawn.append(
            Chart(title, "targets by what became of them", charts.bars(lost, "targets", frozenset({"answered"})))
        )
    lede = "Every target that was not among the first ten counts once, at the first step that lost it."
    return Section("Where targets are lost", lede, drawn, [Table("All counts", head, rows, folded=True)])


def _interval(line: Line) -> Interval | None:
    mean = line.summary.get(LEADING)
    if mean is None:
        return None
    low, high = line.summary.get(f"{LEADING} low"), line.summary.get(f"{LEADING} high")
    return Interval(mean, mean if low is None else low, mean if high is None else high)


def _with_bounds(line: Line, metric: str) -> str:
    low, high = line.summary.get(f"{metric} low"), line.summary.get(f"{metric} high")
    bounds = "" if low is None or high is None else f" ({shown(low)} to {shown(high)})"
    return shown(line.summary.get(metric)) + bounds
