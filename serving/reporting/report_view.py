"""The content of the report's page: an evaluation as tiles, charts, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ranking.ordering.blend import Blend
from ranking.ordering.platt import PlattScaling
from serving.evaluation.figures import CUTS, Json, as_object, given_stage
from serving.reporting.charts import COLOURS, Interval, change_bars, recall_curves, reliability_lines, short, stage_dots
from serving.reporting.tables import (
    SLICED,
    SliceRow,
    caption,
    heading,
    is_best,
    shown,
    slice_rows,
    stage_label,
    stage_name,
)

LISTED = 10  # places of an example that are shown
TITLES = {
    "seen_removed": "Recommending something new",
    "recommend_unseen": "Recommending something new",
    "seen_kept": "Recommending, seen items included",
    "recommend": "Recommending",
    "search": "Searching the whole catalogue",
    "personalised_search": "Personalised search",
    "complete_cart": "Completing a cart",
    "judged": "Ordering judged items",
}
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
VERDICTS = {
    "proven": ("Proven", "The 95 % interval of the change lies above zero."),
    "likely": ("Likely", "The mean change is above zero, and so are at least 80 % of its resamples."),
    "no": ("Not shown", "These requests do not show an improvement."),
    "adopted": ("Adopted", "The model was adopted as it was, without a gate."),
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


class Section(NamedTuple):
    """One task: its charts, its slices and the table of all its figures."""

    title: str
    lede: str
    charts: list[Chart]
    columns: list[str]
    rows: list[Row]
    notes: list[str]
    sliced: list[str]  # columns of the slices
    slices: list[SliceRow]


class GateCard(NamedTuple):
    """A verdict, in words and figures."""

    task: str
    verdict: str
    headline: str
    meaning: str
    facts: dict[str, str]


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
            found += [*_recall_tile(name, tasks[name]), *_reranking_tile(name, tasks[name])]
    return found


def section(name: str, task: Mapping[str, Json]) -> Section:
    """The page's section about one task."""
    stages = {stage: as_object(figures) for stage, figures in as_object(task["stages"]).items()}
    drawn = _without_repeated_final(task, stages)
    charts = [_dots(task, drawn)] if name == "judged" else [_curves(drawn), _dots(task, drawn)]
    columns = list(dict.fromkeys(key for figures in stages.values() for key in figures if key != "n"))
    rows = [
        Row(
            stage_name(stage, figures, task),
            stage if stage in COLOURS else "",
            [Cell(shown(figures.get(key)), is_best(key, stage, stages)) for key in columns],
        )
        for stage, figures in stages.items()
    ]
    return Section(
        title=TITLES[name],
        lede=LEDES[name].format(n=task["n"]),
        charts=charts,
        columns=[heading(key) for key in columns],
        rows=rows,
        notes=caption(task).splitlines(),
        sliced=[heading(key) for key in SLICED],
        slices=slice_rows(task),
    )


def gates(evaluation: Mapping[str, Json]) -> list[GateCard]:
    """One card for each verdict of the gate fold."""
    return [_gate(name, as_object(verdict)) for name, verdict in as_object(evaluation["gate"]).items()]


def change_chart(tasks: Mapping[str, Mapping[str, Json]]) -> Chart | None:
    """What reranking changed on the test requests of each task; None where nothing was reranked."""
    changes = {
        f"{TITLES[name]}\nn = {as_object(one)['n']:,}": _interval(as_object(one)["change"])
        for name, task in tasks.items()
        for stage, one in as_object(task.get("reranking", {})).items()
        if stage == "reranked"
    }
    if not changes:
        return None
    text = "On test requests, on which nothing was tuned. Right of the line is better; bars are 95 % intervals."
    return Chart("Change of nDCG@10 by reranking", text, change_bars(changes, "change of nDCG@10"))


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
    return [Fold(stage_label(name), f"{size:,}", round(100 * size / most, 1)) for name, size in sizes.items()]


def _recall_tile(name: str, task: Mapping[str, Json]) -> Iterator[Tile]:
    found = _column(task, "recall@100")
    given = given_stage(found)
    if given in found:
        wanted, _ = TILES.get(name, RECOMMENDED_TILE)
        label = f"{wanted} among the 100 candidates"
        beside = _best_baseline(found, lambda value: f"{100 * value:.1f} %")
        yield Tile([(f"{100 * found[given]:.1f} %", given)], label, beside)


def _reranking_tile(name: str, task: Mapping[str, Json]) -> Iterator[Tile]:
    changes = as_object(task.get("reranking", {}))
    if "reranked" in changes:
        one = as_object(changes["reranked"])
        before, after, by = (_interval(one[part]) for part in ("before", "after", "change"))
        _, task_name = TILES.get(name, RECOMMENDED_TILE)
        label = f"nDCG@10 of {task_name}, before and after reranking"
        note = f"change {_signed(by.mean)}, 95 % interval {_signed(by.low)} to {_signed(by.high)}, n = {one['n']:,}"
        given = given_stage(as_object(task["stages"]))
        parts = [(short(before.mean), given), (" → ", "quiet"), (short(after.mean), "reranked")]
        yield Tile(parts, label, note)


def _judged_tile(task: Mapping[str, Json]) -> Iterator[Tile]:
    found = _column(task, "ndcg@10")
    for name in [stage for stage in ("final", "reranked", "fused", "retrieval") if stage in found][:1]:
        figures = as_object(as_object(task["stages"])[name])
        extra = [f"{heading(key)} {shown(figures[key])}" for key in ("rmse", "spearman") if key in figures]
        note = "; ".join(part for part in (_best_baseline(found, short), *extra) if part)
        yield Tile([(short(found[name]), name)], f"nDCG@10 in ordering judged items, {stage_label(name)}", note)


def _curves(stages: Mapping[str, Mapping[str, Json]]) -> Chart:
    curves: dict[str, dict[int, float]] = {}
    for stage, figures in stages.items():
        known = {k: figures.get(f"recall@{k}") for k in CUTS}
        curves[stage] = {k: value for k, value in known.items() if isinstance(value, int | float)}
    text = (
        "The share of the wanted items among the first k. "
        "Reranking permutes the candidates, so its curve ends where theirs does."
    )
    return Chart("Recall by length of the list", text, recall_curves(curves))


def _without_repeated_final(
    task: Mapping[str, Json], stages: Mapping[str, Mapping[str, Json]]
) -> Mapping[str, Mapping[str, Json]]:
    """The stages without a final order that equals another one; tables show it all the same."""
    changes = as_object(task.get("reranking", {}))
    kept = "final" in changes and _interval(as_object(changes["final"])["change"]) == Interval(0, 0, 0)
    if "final" not in stages or not (kept or stages["final"] == stages.get("reranked")):
        return stages
    return {name: figures for name, figures in stages.items() if name != "final"}


def _dots(task: Mapping[str, Json], stages: Mapping[str, Mapping[str, Json]]) -> Chart:
    changes = {name: as_object(one) for name, one in as_object(task.get("reranking", {})).items()}
    intervals = {name: _interval(one["after"]) for name, one in changes.items()}
    for one in list(changes.values())[:1]:
        intervals[given_stage(stages)] = _interval(one["before"])
    values = _column(task, "ndcg@10") | {name: interval.mean for name, interval in intervals.items()}
    values = {name: value for name, value in values.items() if name in stages}
    intervals = {name: interval for name, interval in intervals.items() if name in stages}
    text = f"nDCG with {task['gain']}."
    if changes:
        n = next(iter(changes.values()))["n"]
        text += f" Before and after reranking on the same {n:,} requests, with 95 % intervals."
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


def _gate(name: str, verdict: Mapping[str, Json]) -> GateCard:
    headline, meaning = VERDICTS[str(verdict["verdict"])]
    facts = {} if "mean" not in verdict else _gate_facts(verdict)
    return GateCard(TITLES.get(name, stage_label(name).capitalize()), str(verdict["verdict"]), headline, meaning, facts)


def _gate_facts(verdict: Mapping[str, Json]) -> dict[str, str]:
    return {
        "change of nDCG@10": _signed(verdict["mean"]),
        "95 % interval": f"{_signed(verdict['low'])} to {_signed(verdict['high'])}",
        "requests": f"{verdict['n']:,}",
        "resamples above zero": f"{100 * share:.1f} %"
        if isinstance(share := verdict["share_positive"], float)
        else "–",
        "smallest detectable change": shown(verdict["mde"]),
        **({"order": str(Blend.of(as_object(verdict["blend"])))} if "blend" in verdict else {}),
        **{
            f"against {stage_label(name)}": _against(as_object(one))
            for name, one in as_object(verdict.get("against", {})).items()
        },
        **({"weight of each score": _weights(as_object(verdict["weights"]))} if "weights" in verdict else {}),
    }


def _against(verdict: Mapping[str, Json]) -> str:
    return f"{_signed(verdict['mean'])} ({verdict['verdict']}, {_signed(verdict['low'])} to {_signed(verdict['high'])})"


def _weights(terms: Mapping[str, Json]) -> str:
    return "; ".join(
        f"{stage_label(name)} {weight:.3g}" for name, weight in terms.items() if isinstance(weight, int | float)
    )


def _column(task: Mapping[str, Json], key: str) -> dict[str, float]:
    """One figure of every stage that has it."""
    stages = as_object(task["stages"])
    known = {stage: as_object(figures).get(key) for stage, figures in stages.items()}
    return {stage: value for stage, value in known.items() if isinstance(value, int | float)}


def _best_baseline(values: Mapping[str, float], written: Callable[[float], str]) -> str:
    baselines = {stage: value for stage, value in values.items() if stage not in COLOURS}
    if not baselines:
        return ""
    best = max(baselines, key=lambda stage: baselines[stage])
    return f"best baseline: {stage_label(best)}, {written(baselines[best])}"


def _interval(value: Json) -> Interval:
    bounds = [bound for key in Interval._fields if isinstance(bound := as_object(value)[key], int | float)]
    return Interval(*bounds)


def _signed(value: Json) -> str:
    return shown(value, sign=True)
