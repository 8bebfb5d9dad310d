"""The figures of an evaluation as terminal tables: all stages and baselines side by side, in a reader's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from serving.evaluation.figures import Json, as_object
from serving.texts.catalogue import Language, catalogue, text, text_or

if TYPE_CHECKING:
    from rich.table import Table

RANKED = ("recall@5", "recall@10", "recall@50", "recall@100", "ndcg@5", "ndcg@10", "mrr@10")
SEARCHED = ("recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@10", "judged_share@10", "ndcg_judged@10")
JUDGED = ("ndcg@5", "ndcg@10", "ndcg_plain@10", "rmse", "spearman")
SLICED = ("recall@10", "recall@100", "ndcg@10")
LISTED = ("search", "personalised_search", "complete_cart")  # tasks after recommendation, in their order
NEITHER = ("judged_share", "coverage", "novelty", "popularity_bias")
OURS = ("retrieval", "fused", "features", "reweighed", "reranked", "final")


class SliceRow(NamedTuple):
    """One stage on one slice of a task; `name` and `n` are empty in all rows of a slice but its first."""

    name: str
    n: str
    stage: str
    figures: list[str]  # as in SLICED


def tables(evaluation: Mapping[str, Json], language: Language = "en") -> list[Table]:
    """Rich tables of each task of `evaluate`'s object: all stages, the best of each column in bold, then its slices."""
    tasks = as_object(evaluation["tasks"])
    ranked = {f"recommend_{name}": task for name, task in as_object(tasks.get("recommend", {})).items()}
    ranked |= {name: tasks[name] for name in LISTED if name in tasks}
    found = []
    for name, task in ranked.items():
        columns, title = SEARCHED if name == "search" else RANKED, text(f"terminal.{name}", language)
        found.append(stage_table(title, as_object(task), columns, caption(as_object(task), language), language))
        if "sample" in as_object(task):
            sample = as_object(as_object(task)["sample"])
            sampled = text("terminal.sampled", language, task=title)
            found.append(stage_table(sampled, sample, columns, language=language))
        rows = slice_rows(as_object(task), language)
        found += [slice_table(title, rows, language)] if rows else []
    if "judged" in tasks:
        judged, title = as_object(tasks["judged"]), text("terminal.judged", language)
        found.append(stage_table(title, judged, JUDGED, caption(judged, language), language))
    return found


def stage_table(
    title: str, task: Mapping[str, Json], columns: Sequence[str], note: str = "", language: Language = "en"
) -> Table:
    """Stages as rows, all of the same `n` requests, figures as columns; a missing figure is a dash."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    stages = {name: as_object(figures) for name, figures in as_object(task["stages"]).items()}
    columns = [column for column in columns if any(column in figures for figures in stages.values())]
    title = text("terminal.n", language, task=title, n=task["n"])
    table = Table(title=title, caption=note or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column(text("page.stage", language), no_wrap=True)
    for column in columns:
        table.add_column(heading(column, language), justify="right")
    for name, figures in stages.items():
        cells = [
            Text(shown(figures.get(column)), "bold" if is_best(column, name, stages) else "") for column in columns
        ]
        table.add_row(Text(stage_label(name, language), "cyan" if name in OURS else ""), *cells)
    return table


def slice_table(title: str, rows: Sequence[SliceRow], language: Language = "en") -> Table:
    """The slices of a task, three stages each."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = text("terminal.by_slice", language, task=title)
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name, justify in (("slice", "left"), ("n", "right"), ("stage", "left")):
        table.add_column(text(f"page.{name}", language), justify=justify)  # type: ignore[arg-type]
    for column in SLICED:
        table.add_column(heading(column, language), justify="right")
    for row in rows:
        table.add_row(row.name, row.n, row.stage, *row.figures)
    return table


def slice_rows(task: Mapping[str, Json], language: Language = "en") -> list[SliceRow]:
    """The whole task and each of its slices: retrieval, the fused order, that by features and the baseline of the best
    nDCG@10; none where there are no slices."""
    slices = as_object(task.get("slices", {}))
    if not slices:
        return []
    parts = {text("table.all", language): task}
    parts |= {slice_label(name, language): as_object(part) for name, part in slices.items()}
    rows = []
    for name, part in parts.items():
        stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
        for at, stage in enumerate(_compared(stages)):
            figures = [shown(stages[stage].get(column)) for column in SLICED]
            rows.append(
                SliceRow(*(("", "") if at else (name, f"{part['n']:,}")), stage_label(stage, language), figures)
            )
    return rows


def _compared(stages: Mapping[str, Mapping[str, Json]]) -> list[str]:
    ndcg = {name: value for name, one in stages.items() if isinstance(value := one.get("ndcg@10"), int | float)}
    baselines = [name for name in ndcg if name not in OURS]
    ours = [name for name in ("retrieval", "fused", "features") if name in stages]
    return [*ours, *([max(baselines, key=ndcg.__getitem__)] if baselines else [])]


def stage_label(stage: str, language: Language = "en") -> str:
    """A readable name of a stage.

    >>> stage_label("popularity_7d"), stage_label("item_knn"), stage_label("bm25")
    ('popularity, 7 days', 'item-kNN', 'BM25')
    """
    return text_or(f"stage.{stage}", stage.replace("_", " "), language)


def task_title(task: str, language: Language = "en") -> str:
    """A readable name of a task, as a heading.

    >>> task_title("complete_cart"), task_title("my_task")
    ('Completing a cart', 'My task')
    """
    return text_or(f"title.{task}", task.replace("_", " ").capitalize(), language)


def slice_label(part: str, language: Language = "en") -> str:
    """A readable name of a slice.

    >>> slice_label("explore"), slice_label("explore", "zh")
    ('not taken before', '没买过的')
    """
    return text_or(f"slice.{part}", stage_label(part, language), language)


def gain_text(gain: str, language: Language = "en") -> str:
    """The gain of nDCG as an evaluation names it, in a language; formulas stay.

    >>> gain_text("exponential gain, 2^grade - 1", "zh"), gain_text("linear gain")
    ('指数增益, 2^grade - 1', 'linear gain')
    """
    name, comma, formula = gain.partition(",")
    return text_or(f"table.{name.removesuffix(' gain')}", name, language) + comma + formula


def caption(task: Mapping[str, Json], language: Language = "en") -> str:
    """How nDCG was computed, and what each part of the second stage changed, with its interval and the number of
    requests."""
    gains = {key: gain_text(str(task[key]), language) for key in ("gain", "gain_judged", "gain_plain") if key in task}
    parts = [text(f"table.{key}", language, gain=gain, pairs=task.get("pairs", 0)) for key, gain in gains.items()]
    lines = [text("note.also", language).join(parts)]
    for name, found in as_object(task.get("changes", {})).items():
        change = as_object(found)
        before, after = stage_label(str(change["against"]), language), stage_label(name, language)
        line = change_line(change, language)
        lines.append(text("table.against", language, stage=after, before=before, change=line))
    return "\n".join(lines)


def change_line(change: Mapping[str, Json], language: Language = "en") -> str:
    """What a part of the second stage changed, in one line.

    >>> side = lambda mean: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    >>> change_line({"n": 4000, "before": side(.05), "after": side(.06), "change": side(.01)})
    'nDCG@10 .0500 -> .0600, change +.0100, 95 % interval +.0000 to +.0200, n = 4,000'
    """
    before, after, by = (as_object(change[part]) for part in ("before", "after", "change"))
    signs = [shown(by[part], sign=True) for part in ("mean", "low", "high")]
    sides = {"before": shown(before["mean"]), "after": shown(after["mean"])}
    return text("table.change", language, **sides, mean=signs[0], low=signs[1], high=signs[2], n=change["n"])


def heading(column: str, language: Language = "en") -> str:
    """The column heading of a figure.

    >>> heading("recall@10"), heading("ndcg_judged@10"), heading("rmse")
    ('R@10', 'nDCG judged@10', 'RMSE')
    """
    name, at, k = column.partition("@")
    return catalogue(language)["column"][name] + at + k


def shown(value: Json, *, sign: bool = False) -> str:
    """A figure with four places and no leading zero.

    >>> shown(.09341), shown(1.0), shown(None), shown(-.002, sign=True), shown(.002, sign=True)
    ('.0934', '1.0000', '–', '-.0020', '+.0020')
    """
    if not isinstance(value, int | float):
        return "–"
    text = f"{abs(value):.4f}".removeprefix("0")
    return ("-" if value < 0 else "+" if sign else "") + text


def is_best(column: str, stage: str, stages: Mapping[str, Mapping[str, Json]]) -> bool:
    """Whether no stage has a better figure; a figure that is neither good nor bad is never best."""
    known = [value for figures in stages.values() if isinstance(value := figures.get(column), int | float)]
    if not known or column.partition("@")[0] in NEITHER:
        return False
    return stages[stage].get(column) == (min(known) if column == "rmse" else max(known))
