"""The content of the report's page: an evaluation as tiles, charts, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ranking.ordering.platt import PlattScaling
from serving.evaluation.figures import CUTS, Json, as_object
from serving.reporting.charts import COLOURS, Interval, change_bars, recall_curves, reliability_lines, short, stage_dots
from serving.reporting.tables import (
    OURS,
    SLICED,
    TITLES,
    SliceRow,
    caption,
    heading,
    is_best,
    shown,
    slice_rows,
    stage_label,
)

LISTED = 10  # places of an example that are shown
LEDES = {
    "seen_removed": "{n:,} requests: find what a shopper took next among all items that they had not taken before.",
    "seen_kept": "{n:,} requests: find what a shopper took next among all items, those taken before included.",
    "search": "{n:,} queries: find their items of the highest grade among all items. Unjudged items count as misses, "
    "although some are relevant.",
    "personalised_search": "{n:,} searches: find what the shopper took within the hour, given the query and what they "
    "had done before. The query alone is the same search without a shopper.",
    "complete_cart": "{n:,} baskets of two items or more: find one hidden item, given the others.",
    "judged": "{n:,} queries with at least 5 judged items of more than one grade: put those in order.",
}
RECOMMENDED_TILE = ("of what shoppers took next is", "recommendation")  # what is found, and the name of the task
TILES = {
    "search": ("of the best-graded items are", "search"),
    "personalised_search": ("of what was taken after a search is", "personalised search"),
    "complete_cart": ("of hidden cart items are", "cart completion"),
}
RECOMMENDED = ("seen_removed", "seen_kept")


class Tile(NamedTuple):
    """One headline figure."""

    parts: list[tuple[str, str]]  # of the figure, each with the CSS class of its colour
    label: str
    note: str


class Chart(NamedTuple):
    """A drawing with what it shows; svg is trusted markup."""

    title: str
    caption: str
    svg: str


class Cell(NamedTuple):
    """One figure of a table."""

    text: str
    best: bool


class Row(NamedTuple):
    """One stage of a table."""

    name: str
    tone: str  # the CSS class of its colour, empty for a baseline
    cells: list[Cell]


class FigureTable(NamedTuple):
    """All figures of some stages, of the same requests."""

    title: str
    columns: list[str]
    rows: list[Row]


class Section(NamedTuple):
    """One task: its charts, its slices and the tables of all its figures."""

    title: str
    lede: str
    charts: list[Chart]
    tables: list[FigureTable]
    notes: list[str]
    sliced: list[str]  # columns of the slices
    slices: list[SliceRow]


class Line(NamedTuple):
    """One place of a shown list."""

    place: int
    title: str
    wanted: bool
    move: str
    rose: bool


class ExampleCard(NamedTuple):
    """A request with its list before and after."""

    kicker: str
    asked: Sequence[str]
    before: list[Line]
    after: list[Line]


class Fold(NamedTuple):
    """The size of a fold, and its bar in per cent of the largest."""

    name: str
    size: str
    width: float


def tasks_of(evaluation: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    """The evaluated tasks on one level: recommendation with seen items removed and kept, search, judged items."""
    tasks = as_object(evaluation["tasks"])
    found = {name: as_object(task) for name, task in as_object(tasks.get("recommend", {})).items()}
    return found | {name: as_object(task) for name, task in tasks.items() if name != "recommend"}


def tiles(tasks: Mapping[str, Mapping[str, Json]]) -> list[Tile]:
    """The headline figures; recommendation is shown with seen items removed, if it was evaluated so."""
    found: list[Tile] = []
    for name in [
        *[way for way in RECOMMENDED if way in tasks][:1],
        *[other for other in tasks if other not in RECOMMENDED],
    ]:
        if name == "judged":
            found += _judged_tile(tasks[name])
        else:
            found += [*_recall_tile(name, tasks[name]), *_change_tiles(name, tasks[name])]
    return found


def section(name: str, task: Mapping[str, Json]) -> Section:
    """The page's section about one task."""
    parts = [task, *([as_object(task["sample"])] if "sample" in task else [])]
    drawn = {**task, **parts[-1]}  # every stage of the same requests
    charts = [_dots(drawn)] if name == "judged" else [_curves(drawn), _dots(drawn)]
    return Section(
        title=TITLES[name],
        lede=LEDES[name].format(n=task["n"]),
        charts=charts,
        tables=[_figures(part, sampled=number > 0) for number, part in enumerate(parts)],
        notes=caption(task).splitlines(),
        sliced=[heading(key) for key in SLICED],
        slices=slice_rows(task),
    )


def change_chart(tasks: Mapping[str, Mapping[str, Json]]) -> Chart | None:
    """What each part of the second stage changed on the test requests of each task; None where there is none."""
    changes: dict[str, Interval] = {}
    stages: dict[str, str] = {}
    for name, task in tasks.items():
        for stage, one in as_object(task.get("changes", {})).items():
            title = f"{TITLES[name]}\n{stage_label(stage)}\nn = {as_object(one)['n']:,}"
            changes[title], stages[title] = _interval(as_object(one)["change"]), stage
    if not changes:
        return None
    text = (
        "On test requests, on which nothing was tuned, each part against the order that it was given. "
        "Right of the line is better; bars are 95 % intervals."
    )
    return Chart("What each part changes: nDCG@10", text, change_bars(changes, "change of nDCG@10", stages))


def example(
    kind: str, asked: Sequence[str], before: Sequence[str], after: Sequence[str], targets: frozenset[str]
) -> ExampleCard:
    """The head of both lists, with the places that each title rose or fell.

    >>> card = example("search", ["screw"], ["bolt", "screw"], ["screw", "bolt"], frozenset({"screw"}))
    >>> [(line.title, line.move, line.wanted) for line in card.after]
    [('screw', '▲ 1', True), ('bolt', '▼ 1', False)]
    """
    places = {title: place for place, title in reversed(list(enumerate(before)))}
    retrieved = [Line(i + 1, title, title in targets, "", False) for i, title in enumerate(before[:LISTED])]
    reranked = []
    for place, title in enumerate(after[:LISTED]):
        rise = places.get(title, place) - place
        move = "" if rise == 0 else f"{'▲' if rise > 0 else '▼'} {abs(rise)}"
        reranked.append(Line(place + 1, title, title in targets, move, rise > 0))
    known_of = [text for text in asked if text]
    who = "A shopper whose last items were, newest first" if known_of else "A shopper of whom nothing is known yet"
    kicker = "Somebody searched for" if kind == "search" else who
    return ExampleCard(kicker, known_of, retrieved, reranked)


def folds(sizes: Mapping[str, int]) -> list[Fold]:
    """Bars for the sizes of folds."""
    most = max(sizes.values(), default=0) or 1
    return [Fold(name.replace("_", " "), f"{size:,}", round(100 * size / most, 1)) for name, size in sizes.items()]


def _figures(part: Mapping[str, Json], *, sampled: bool) -> FigureTable:
    stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
    columns = list(dict.fromkeys(key for figures in stages.values() for key in figures))
    rows = [
        Row(
            stage_label(stage),
            stage if stage in COLOURS else "",
            [Cell(shown(figures.get(key)), is_best(key, stage, stages)) for key in columns],
        )
        for stage, figures in stages.items()
    ]
    title = f"The {part['n']:,} requests that the text model read" if sampled else f"All {part['n']:,} requests"
    return FigureTable(title, [heading(key) for key in columns], rows)


def _recall_tile(name: str, task: Mapping[str, Json]) -> Iterator[Tile]:
    found = _column(task, "recall@100")
    given = "fused" if "fused" in found else "retrieval"
    if given in found:
        wanted, _ = TILES.get(name, RECOMMENDED_TILE)
        label = f"{wanted} among the 100 candidates"
        beside = _best_baseline(found, lambda value: f"{100 * value:.1f} %")
        yield Tile([(f"{100 * found[given]:.1f} %", given)], label, beside)


def _change_tiles(name: str, task: Mapping[str, Json]) -> Iterator[Tile]:
    """What ordering by features and the text model change, each by itself."""
    changes = as_object(task.get("changes", {}))
    for stage, part in (("features", "ordering by features"), ("reranked", "the text model alone")):
        if stage not in changes:
            continue
        one = as_object(changes[stage])
        before, after, by = (_interval(one[side]) for side in ("before", "after", "change"))
        _, task_name = TILES.get(name, RECOMMENDED_TILE)
        label = f"nDCG@10 of {task_name}, before and after {part}"
        note = f"change {_signed(by.mean)}, 95 % interval {_signed(by.low)} to {_signed(by.high)}, n = {one['n']:,}"
        given = str(one["against"])
        tone = given if given in COLOURS else "quiet"
        yield Tile([(short(before.mean), tone), (" → ", "quiet"), (short(after.mean), stage)], label, note)


def _judged_tile(task: Mapping[str, Json]) -> Iterator[Tile]:
    found = _column(task, "ndcg@10")
    for name in [stage for stage in ("final", "reranked", "features", "fused", "retrieval") if stage in found][:1]:
        figures = as_object(as_object(task["stages"])[name])
        extra = [f"{heading(key)} {shown(figures[key])}" for key in ("rmse", "spearman") if key in figures]
        note = "; ".join(part for part in (_best_baseline(found, short), *extra) if part)
        yield Tile([(short(found[name]), name)], f"nDCG@10 in ordering judged items, {stage_label(name)}", note)


def _curves(part: Mapping[str, Json]) -> Chart:
    curves: dict[str, dict[int, float]] = {}
    for stage, figures in _drawn(part).items():
        known = {k: figures.get(f"recall@{k}") for k in CUTS}
        curves[stage] = {k: value for k, value in known.items() if isinstance(value, int | float)}
    text = (
        f"The share of the wanted items among the first k, of {part['n']:,} requests. "
        "The second stage permutes the candidates, so its curves end where theirs does."
    )
    return Chart("Recall by length of the list", text, recall_curves(curves))


def _drawn(part: Mapping[str, Json]) -> Mapping[str, Mapping[str, Json]]:
    """The stages but a final order that equals another of ours; tables show it all the same."""
    stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
    alike = any(stages[name] == stages.get("final") for name in OURS if name in stages and name != "final")
    return {name: figures for name, figures in stages.items() if name != "final" or not alike}


def _dots(part: Mapping[str, Json]) -> Chart:
    drawn = _drawn(part)
    intervals: dict[str, Interval] = {}
    for stage, found in as_object(part.get("changes", {})).items():
        change = as_object(found)
        if change["n"] == part["n"]:  # else of other requests than the rest of the drawing
            sides = {str(change["against"]): "before", stage: "after"}
            intervals |= {name: _interval(change[side]) for name, side in sides.items() if name in drawn}
    values = {name: value for name, value in _column(part, "ndcg@10").items() if name in drawn}
    text = f"nDCG with {part['gain']}, of {part['n']:,} requests."
    text += " Bars are 95 % intervals." if intervals else ""
    return Chart("How high the right items stand: nDCG@10", text, stage_dots(values, intervals, "nDCG@10"))


def reliability_charts(platt_scaling: Mapping[str, Json]) -> list[Chart]:
    """How good the scores of each task are as probabilities, as recorded by a release."""
    charts = []
    for name, recorded in platt_scaling.items():
        found = PlattScaling.of(as_object(recorded))
        text = (
            f"Expected calibration error {short(found.before.error)} before, {short(found.after.error)} after, on "
            f"{found.after.pairs:,} pairs, each half of the lists scaled by a fit on the other half."
        )
        title = f"{TITLES.get(name, stage_label(name).capitalize())}: are the scores good probabilities?"
        charts.append(Chart(title, text, reliability_lines(found.before, found.after)))
    return charts


def _column(task: Mapping[str, Json], key: str) -> dict[str, float]:
    """One figure of every stage that has it."""
    stages = as_object(task["stages"])
    known = {stage: as_object(figures).get(key) for stage, figures in stages.items()}
    return {stage: value for stage, value in known.items() if isinstance(value, int | float)}


def _best_baseline(values: Mapping[str, float], written: Callable[[float], str]) -> str:
    baselines = {stage: value for stage, value in values.items() if stage not in OURS}
    if not baselines:
        return ""
    best = max(baselines, key=lambda stage: baselines[stage])
    return f"best baseline: {stage_label(best)}, {written(baselines[best])}"


def _interval(value: Json) -> Interval:
    bounds = [bound for key in Interval._fields if isinstance(bound := as_object(value)[key], int | float)]
    return Interval(*bounds)


def _signed(value: Json) -> str:
    return shown(value, sign=True)
