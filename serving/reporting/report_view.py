"""The content of the report's page in a reader's language: an evaluation as tiles, charts, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ranking.ordering.platt import PlattScaling
from serving.evaluation.figures import CUTS, Json, as_object
from serving.reporting.charts import (
    COLOURS,
    Interval,
    change_bars,
    chart_language,
    recall_curves,
    reliability_lines,
    short,
    stage_dots,
)
from serving.reporting.tables import (
    OURS,
    SLICED,
    SliceRow,
    caption,
    gain_text,
    heading,
    is_best,
    shown,
    slice_rows,
    stage_label,
    task_title,
)
from serving.texts.catalogue import Language, text, text_or

LISTED = 10  # places of an example that are shown
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


def tiles(tasks: Mapping[str, Mapping[str, Json]], language: Language = "en") -> list[Tile]:
    """The headline figures; recommendation is shown with seen items removed, if it was evaluated so."""
    found: list[Tile] = []
    for name in [
        *[way for way in RECOMMENDED if way in tasks][:1],
        *[other for other in tasks if other not in RECOMMENDED],
    ]:
        if name == "judged":
            found += _judged_tile(tasks[name], language)
        else:
            found += [*_recall_tile(name, tasks[name], language), *_change_tiles(name, tasks[name], language)]
    return found


def section(name: str, task: Mapping[str, Json], language: Language = "en") -> Section:
    """The page's section about one task."""
    parts = [task, *([as_object(task["sample"])] if "sample" in task else [])]
    drawn = {**task, **parts[-1]}  # every stage of the same requests
    dots = _dots(drawn, language)
    return Section(
        title=task_title(name, language),
        lede=text(f"lede.{name}", language, n=task["n"]),
        charts=[dots] if name == "judged" else [_curves(drawn, language), dots],
        tables=[_figures(part, language, sampled=number > 0) for number, part in enumerate(parts)],
        notes=caption(task, language).splitlines(),
        sliced=[heading(key, language) for key in SLICED],
        slices=slice_rows(task, language),
    )


def change_chart(tasks: Mapping[str, Mapping[str, Json]], language: Language = "en") -> Chart | None:
    """What each part of the second stage changed on the test requests of each task; None where there is none."""
    changes: dict[str, Interval] = {}
    stages: dict[str, str] = {}
    drawn = chart_language(language)
    for name, task in tasks.items():
        for stage, one in as_object(task.get("changes", {})).items():
            title = f"{task_title(name, drawn)}\n{stage_label(stage, drawn)}\nn = {as_object(one)['n']:,}"
            changes[title], stages[title] = _interval(as_object(one)["change"]), stage
    if not changes:
        return None
    svg = change_bars(changes, text("chart.change_axis", drawn), stages, drawn)
    return Chart(text("chart.change", language), text("chart.change_caption", language), svg)


def example(
    kind: str,
    asked: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    targets: frozenset[str],
    language: Language = "en",
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
    known_of = [one for one in asked if one]
    who = "search" if kind == "search" else "known" if known_of else "unknown"
    return ExampleCard(text(f"example.{who}", language), known_of, retrieved, reranked)


def folds(sizes: Mapping[str, int], language: Language = "en") -> list[Fold]:
    """Bars for the sizes of folds."""
    most = max(sizes.values(), default=0) or 1
    names = {name: text_or(f"fold.{name}", name.replace("_", " "), language) for name in sizes}
    return [Fold(names[name], f"{size:,}", round(100 * size / most, 1)) for name, size in sizes.items()]


def _figures(part: Mapping[str, Json], language: Language, *, sampled: bool) -> FigureTable:
    stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
    columns = list(dict.fromkeys(key for figures in stages.values() for key in figures))
    rows = [
        Row(
            stage_label(stage, language),
            stage if stage in COLOURS else "",
            [Cell(shown(figures.get(key)), is_best(key, stage, stages)) for key in columns],
        )
        for stage, figures in stages.items()
    ]
    title = text("table.sampled" if sampled else "table.whole", language, n=part["n"])
    return FigureTable(title, [heading(key, language) for key in columns], rows)


def _recall_tile(name: str, task: Mapping[str, Json], language: Language) -> Iterator[Tile]:
    found = _column(task, "recall@100")
    given = "fused" if "fused" in found else "retrieval"
    if given in found:
        label = text(f"tile.found_{_plain_task(name)}", language)
        beside = _best_baseline(found, lambda value: f"{100 * value:.1f} %", language)
        yield Tile([(f"{100 * found[given]:.1f} %", given)], label, beside)


def _change_tiles(name: str, task: Mapping[str, Json], language: Language) -> Iterator[Tile]:
    """What ordering by features and the text model change, each by itself."""
    changes = as_object(task.get("changes", {}))
    for stage in ("features", "reranked"):
        if stage not in changes:
            continue
        one = as_object(changes[stage])
        before, after, by = (_interval(one[side]) for side in ("before", "after", "change"))
        part, task_name = text(f"tile.change_{stage}", language), text(f"task.{_plain_task(name)}", language)
        label = text("tile.change", language, task=task_name, part=part)
        signed = {side: _signed(value) for side, value in by._asdict().items()}
        note = text("tile.interval", language, **signed, n=one["n"])
        given = str(one["against"])
        tone = given if given in COLOURS else "quiet"
        yield Tile([(short(before.mean), tone), (" → ", "quiet"), (short(after.mean), stage)], label, note)


def _plain_task(name: str) -> str:
    """Both ways of recommending are one task in a sentence."""
    return "recommend" if name in RECOMMENDED else name


def _judged_tile(task: Mapping[str, Json], language: Language) -> Iterator[Tile]:
    found = _column(task, "ndcg@10")
    for name in [stage for stage in ("final", "reranked", "features", "fused", "retrieval") if stage in found][:1]:
        figures = as_object(as_object(task["stages"])[name])
        extra = [f"{heading(key, language)} {shown(figures[key])}" for key in ("rmse", "spearman") if key in figures]
        beside = _best_baseline(found, short, language)
        note = text("note.also", language).join(part for part in (beside, *extra) if part)
        label = text("tile.judged", language, stage=stage_label(name, language))
        yield Tile([(short(found[name]), name)], label, note)


def _curves(part: Mapping[str, Json], language: Language) -> Chart:
    curves: dict[str, dict[int, float]] = {}
    for stage, figures in _drawn(part).items():
        known = {k: figures.get(f"recall@{k}") for k in CUTS}
        curves[stage] = {k: value for k, value in known.items() if isinstance(value, int | float)}
    below = text("chart.curves_caption", language, n=part["n"])
    return Chart(text("chart.curves", language), below, recall_curves(curves, chart_language(language)))


def _drawn(part: Mapping[str, Json]) -> Mapping[str, Mapping[str, Json]]:
    """The stages but a final order that equals another of ours; tables show it all the same."""
    stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
    alike = any(stages[name] == stages.get("final") for name in OURS if name in stages and name != "final")
    return {name: figures for name, figures in stages.items() if name != "final" or not alike}


def _dots(part: Mapping[str, Json], language: Language) -> Chart:
    drawn = _drawn(part)
    intervals: dict[str, Interval] = {}
    for stage, found in as_object(part.get("changes", {})).items():
        change = as_object(found)
        if change["n"] == part["n"]:  # else of other requests than the rest of the drawing
            sides = {str(change["against"]): "before", stage: "after"}
            intervals |= {name: _interval(change[side]) for name, side in sides.items() if name in drawn}
    values = {name: value for name, value in _column(part, "ndcg@10").items() if name in drawn}
    key = "chart.dots_caption_bars" if intervals else "chart.dots_caption"
    below = text(key, language, gain=gain_text(str(part["gain"]), language), n=part["n"])
    svg = stage_dots(values, intervals, "nDCG@10", chart_language(language))
    return Chart(text("chart.dots", language), below, svg)


def reliability_charts(platt_scaling: Mapping[str, Json], language: Language = "en") -> list[Chart]:
    """How good the scores of each task are as probabilities, as recorded by a release."""
    charts = []
    for name, recorded in platt_scaling.items():
        found = PlattScaling.of(as_object(recorded))
        errors = {"before": short(found.before.error), "after": short(found.after.error)}
        below = text("chart.reliability_caption", language, **errors, pairs=found.after.pairs)
        title = text("chart.reliability", language, task=task_title(name, language))
        svg = reliability_lines(found.before, found.after, chart_language(language))
        charts.append(Chart(title, below, svg))
    return charts


def _column(task: Mapping[str, Json], key: str) -> dict[str, float]:
    """One figure of every stage that has it."""
    stages = as_object(task["stages"])
    known = {stage: as_object(figures).get(key) for stage, figures in stages.items()}
    return {stage: value for stage, value in known.items() if isinstance(value, int | float)}


def _best_baseline(values: Mapping[str, float], written: Callable[[float], str], language: Language) -> str:
    baselines = {stage: value for stage, value in values.items() if stage not in OURS}
    if not baselines:
        return ""
    best = max(baselines, key=lambda stage: baselines[stage])
    label = stage_label(best, language)
    return text("tile.best_baseline", language, stage=label, value=written(baselines[best]))


def _interval(value: Json) -> Interval:
    bounds = [bound for key in Interval._fields if isinstance(bound := as_object(value)[key], int | float)]
    return Interval(*bounds)


def _signed(value: Json) -> str:
    return shown(value, sign=True)
