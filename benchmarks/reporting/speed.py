"""What the page says of cost: latency, load, settings, models, what reranking keeps, training, indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.latency.by_stage import WHOLE
from benchmarks.models.throughput import THEIRS
from benchmarks.reporting import charts
from benchmarks.reporting.blocks import Section, Table, by_place, highest, of, plain_table
from benchmarks.reporting.charts import Curves, LoadPoint, Spot
from benchmarks.result_lines import Recorded
from benchmarks.terminal import number
from benchmarks.vector_index.curves import K as INDEX_K
from serving.reporting.pareto_chart import IndexPoint, Pareto
from serving.reporting.report_view import Chart


def sections(recorded: Sequence[Recorded]) -> list[Section | None]:
    """In the order of the page; None without results."""
    return [
        _index(recorded), _latency(recorded), _load(recorded), _sweeps(recorded), _models(recorded),
        _frontier(recorded), _training(recorded),
    ]  # fmt: skip


def _index(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "index")
    drawn = []
    for (place, asked), some in _apart(lines, "asked").items():
        kinds: dict[str, list[IndexPoint]] = {}
        for one in some:
            point = IndexPoint(one.line.summary["recall"] or 0.0, one.line.summary["per second"] or 0.0)
            kinds.setdefault(one.line.labels["kind"], []).append(point)
        title = f"{place}: queries {asked}"
        drawn.append(Chart(title, "up and to the right is better", Pareto(kinds, INDEX_K).svg()))
    others = {
        "All settings": lines, "Building": of(recorded, "index, built"), "Filtered": of(recorded, "index, by filter"),
        "Growth": of(recorded, "index, growth"), "As tuned": of(recorded, "tuned index"),
        "As tuned, filtered": of(recorded, "tuned index, filtered"),
    }  # fmt: skip
    tables = [plain_table(title, some, folded=title != "As tuned") for title, some in others.items() if some]
    if not tables:
        return None
    for place, some in by_place(others["Growth"]).items():
        drawn += _growth(place, some)
    lede = "Recall against exact search over the bundle's own vectors, for real user vectors."
    return Section("Indexes", lede, drawn, tables)


def _apart(lines: Sequence[Recorded], label: str) -> dict[tuple[str, str], list[Recorded]]:
    """Lines by their place and by one of their labels."""
    found: dict[tuple[str, str], list[Recorded]] = {}
    for place, some in by_place(lines).items():
        for one in some:
            found.setdefault((place, one.line.labels[label]), []).append(one)
    return found


def _growth(place: str, lines: Sequence[Recorded]) -> list[Chart]:
    """Milliseconds of a query and memory by the number of items."""
    spent, held = Curves(), Curves()
    for one in lines:
        kind, size, figures = one.line.labels["kind"], float(one.line.labels["items"]), one.line.summary
        if rate := figures.get("per second"):
            spent.setdefault(kind, []).append((size, 1_000 / rate))
        if megabytes := figures.get("MB"):
            held.setdefault(kind, []).append((size, megabytes))
    about = (("latency as it grows", "ms a query", spent), ("memory as it grows", "MB beside the vectors", held))
    return [
        Chart(f"{place}: {title}", "both axes logarithmic", charts.curves(some, "items", label, logarithmic=True))
        for title, label, some in about
        if some
    ]


def _latency(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "latency")
    if not lines:
        return None
    cold = of(recorded, "first answer of a process")
    lede = "One call after another in a warm process."
    if cold:
        seconds = ", ".join(f"{one.line.labels.get('call', 'a call')} {number(one.line.median)} s" for one in cold)
        lede += f" The first answer of a fresh process, interpreter included: {seconds}."
    drawn = []
    for place, some in by_place(lines).items():
        stages: dict[str, dict[str, float]] = {}
        for one in some:
            if one.line.labels["stage"] != WHOLE:
                stages.setdefault(one.line.labels["call"], {})[one.line.labels["stage"]] = one.line.median or 0.0
        if stages:
            drawn.append(Chart(f"{place}: where the time goes", "medians by stage", charts.waterfall(stages)))
        whole = {
            one.line.labels["call"]: one.line.histogram
            for one in some
            if one.line.labels["stage"] == WHOLE and one.line.histogram
        }
        if whole:
            text = "end to end, calls by milliseconds"
            drawn.append(Chart(f"{place}: how calls spread", text, charts.histograms(whole)))
    return Section("Latency", lede, drawn, [plain_table("All percentiles, ms", lines, folded=True)])


def _load(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "load")
    if not lines:
        return None
    bounds = {place: some[0].line.labels["bound ms"] for place, some in by_place(of(recorded, "highest rate")).items()}
    drawn = []
    for place, some in by_place(lines).items():
        points: dict[str, list[LoadPoint]] = {"open": [], "closed": []}
        for one in some:
            rate = one.line.summary.get("answered per second") or 0.0
            points[one.line.labels["load"]].append(LoadPoint(rate, one.line.median or 0.0, highest(one.line)[1]))
        bound = float(bounds[place]) if place in bounds else None
        curve = charts.load_curve(sorted(points["open"]), points["closed"], bound)
        drawn.append(Chart(f"{place}: load", "latency counts from when a request was due", curve))
    lede = (
        "Arrivals come at a fixed rate whether or not earlier ones were answered, so that waiting in line is seen; "
        "callers who wait for each answer hide it."
    )
    names = {"open": "Arrivals", "closed": "Callers who wait"}
    parts = {name: [one for one in lines if one.line.labels["load"] == kind] for kind, name in names.items()}
    tables = [plain_table(name, some, folded=True) for name, some in parts.items() if some]
    return Section("Under load", lede, drawn, tables)


def _sweeps(recorded: Sequence[Recorded]) -> Section | None:
    lines = [one for one in of(recorded, "sweep") if one.line.labels["stage"] == WHOLE]
    if not lines:
        return None
    return Section("Settings", "The same calls under one setting after another.", (), [plain_table("", lines)])


def _models(recorded: Sequence[Recorded]) -> Section | None:
    drawn, tables = [], []
    for measured, label, title in (("rerank", "pairs", "reranking"), ("encode", "texts", "encoding")):
        lines = of(recorded, measured)
        for place, some in by_place(lines).items():
            names: dict[str, float] = {}
            for one in (one for one in some if one.line.labels["way"] != THEIRS):
                labels, cores = one.line.labels, one.line.labels.get("cores")
                on = f", {cores} core{'s' if cores != '1' else ''}" if cores else ""
                told = f"{labels['way']}, {labels[label]}{' pairs' if measured == 'rerank' else ''}{on}"
                names[told] = one.line.summary["times faster"] or 0.0
            dots = charts.dots(names, "times as fast", frozenset(names), 1.0)
            drawn.append(Chart(f"{place}: {title}", f"times as fast as {THEIRS}", dots))
        if lines:
            tables.append(plain_table(f"{title.capitalize()}, {lines[0].line.unit}", lines, folded=True))
    lede = "The same model and texts, every way of running it in turn, theirs with the settings of its documentation."
    return Section("Models", lede, drawn, tables) if drawn else None


def _frontier(recorded: Sequence[Recorded]) -> Section | None:
    lines = of(recorded, "frontier")
    if not lines:
        return None
    drawn, shown = [], list[Recorded]()
    for (place, task), some in _apart(lines, "task").items():
        lifts = (some[0].line.summary.get("lift") or 0.0) > 0  # what lifts nothing has nothing that could be kept
        shown += some if lifts else [_without(one, "kept") for one in some]
        spots = [
            Spot(one.line.labels["way"], one.line.median or 0.0, *bounds)
            for one in some
            if len(bounds := [b for name in ("lift", "low", "high") if (b := one.line.summary.get(name)) is not None])
            == 3
        ]
        if spots:
            text = "lift of nDCG@10 over the order given, with 95 % intervals; up and to the left is better"
            drawn.append(Chart(f"{place}: {task}", text, charts.spots(spots, "median milliseconds", "lift of nDCG@10")))
    lede = (
        "Each way of reranking the same lists: what a request waits, and how much better its order becomes. Named are "
        "those that no quicker one equals."
    )
    return Section("What reranking keeps", lede, drawn, [plain_table("All figures", shown, folded=True)])


def _without(one: Recorded, figure: str) -> Recorded:
    return replace(one, line=replace(one.line, summary={**one.line.summary, figure: None}))


def _training(recorded: Sequence[Recorded]) -> Section | None:
    rates, lines = of(recorded, "train"), of(recorded, "train, validation")
    if not rates and not lines:
        return None
    drawn = []
    for (place, figure), some in _apart(lines, "figure").items():
        curves = Curves()
        for one in some:
            known = [
                (float(at.removesuffix(" s")), value) for at, value in one.line.summary.items() if value is not None
            ]
            curves.setdefault(one.line.labels["part"], []).extend(known)
        if any(curves.values()):
            title = f"{place}: {figure.replace('_', ' ')}"
            drawn.append(Chart(title, "in validation, as training goes on", charts.curves(curves, "seconds", figure)))
    tables = [plain_table("Rates and memory", rates)] if rates else list[Table]()
    return Section("Training", "What is learned for the time that it takes.", drawn, tables)
