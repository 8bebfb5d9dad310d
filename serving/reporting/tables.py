"""The figures of an evaluation as terminal tables: all stages and baselines side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from serving.evaluation.figures import Json, as_object

if TYPE_CHECKING:
    from rich.table import Table

RANKED = ("recall@5", "recall@10", "recall@50", "recall@100", "ndcg@5", "ndcg@10", "mrr@10")
SEARCHED = ("recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@10", "judged_share@10", "ndcg_judged@10")
JUDGED = ("ndcg@5", "ndcg@10", "ndcg_plain@10", "rmse", "spearman")
SLICED = ("recall@10", "recall@100", "ndcg@10")
SHORT = {
    "recall": "R",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "judged_share": "judged",
    "ndcg_judged": "nDCG judged",
    "ndcg_plain": "nDCG plain",
    "rmse": "RMSE",
    "spearman": "Spearman",
    "coverage": "coverage",
    "novelty": "novelty",
    "popularity_bias": "pop. bias",
}
NEITHER = ("judged_share", "coverage", "novelty", "popularity_bias")
TASKS = {
    "search": "search, whole catalogue",
    "personalised_search": "personalised search",
    "complete_cart": "cart, one item of the basket hidden",
}
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
OURS = ("retrieval", "fused", "features", "reweighed", "reranked", "final")

STAGE_LABELS = {
    "features": "by features",
    "reweighed": "weighed anew, without the text model",
    "reranked": "with the text model",
    "popularity_7d": "popularity, 7 days",
    "popularity_30d": "popularity, 30 days",
    "looked_at": "looked at, not taken",
    "item_knn": "item-kNN",
    "query_alone": "the query alone",
    "bm25": "BM25",
    "als": "ALS",
    "bpr": "BPR",
    "implicit_item_knn": "implicit item-kNN",
    "sasrec_ids": "SASRec of ids",
    "rectools_sasrec": "SASRec of RecTools",
    "sentence_transformers": "sentence-transformers",
    "sentence_transformers_faiss": "sentence-transformers, FAISS",
    "sentence_transformers_faiss_cross_encoder": "the same, CrossEncoder",
}
SLICES = {
    "one_event": "histories of one event",
    "new_items": "items that were no target in training",
    "repeats": "taken before",
    "explore": "not taken before",
    "noisy_queries": "the same queries, misspelt",
}


class SliceRow(NamedTuple):
    """One stage on one slice of a task; `name` and `n` are empty in all rows of a slice but its first."""

    name: str
    n: str
    stage: str
    figures: list[str]  # as in SLICED


def tables(evaluation: Mapping[str, Json]) -> list[Table]:
    """Rich tables of each task of `evaluate`'s object: all stages, the best of each column in bold, then its slices."""
    tasks = as_object(evaluation["tasks"])
    ranked = {
        f"recommend, {name.replace('_', ' ')}": task for name, task in as_object(tasks.get("recommend", {})).items()
    }
    ranked |= {title: tasks[name] for name, title in TASKS.items() if name in tasks}
    found = []
    for title, task in ranked.items():
        columns = SEARCHED if title.startswith("search") else RANKED
        found.append(stage_table(title, as_object(task), columns, caption(as_object(task))))
        if "sample" in as_object(task):
            sample = as_object(as_object(task)["sample"])
            found.append(stage_table(f"{title}, the requests that the text model read", sample, columns))
        found += [slice_table(title, rows)] if (rows := slice_rows(as_object(task))) else []
    if "judged" in tasks:
        judged = as_object(tasks["judged"])
        found.append(stage_table("order of judged items", judged, JUDGED, caption(judged)))
    return found


def stage_table(title: str, task: Mapping[str, Json], columns: Sequence[str], note: str = "") -> Table:
    """Stages as rows, all of the same `n` requests, figures as columns; a missing figure is a dash."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    stages = {name: as_object(figures) for name, figures in as_object(task["stages"]).items()}
    columns = [column for column in columns if any(column in figures for figures in stages.values())]
    table = Table(title=f"{title}, n = {task['n']:,}", caption=note or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column("stage", no_wrap=True)
    for column in columns:
        table.add_column(heading(column), justify="right")
    for name, figures in stages.items():
        cells = [
            Text(shown(figures.get(column)), "bold" if is_best(column, name, stages) else "") for column in columns
        ]
        table.add_row(Text(stage_label(name), "cyan" if name in OURS else ""), *cells)
    return table


def slice_table(title: str, rows: Sequence[SliceRow]) -> Table:
    """The slices of a task, three stages each."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"{title}, by slice", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name, justify in (("slice", "left"), ("n", "right"), ("stage", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for column in SLICED:
        table.add_column(heading(column), justify="right")
    for row in rows:
        table.add_row(row.name, row.n, row.stage, *row.figures)
    return table


def slice_rows(task: Mapping[str, Json]) -> list[SliceRow]:
    """The whole task and each of its slices: retrieval, the fused order, that by features and the baseline of the best
    nDCG@10; none where there are no slices."""
    slices = as_object(task.get("slices", {}))
    if not slices:
        return []
    parts = {"all": task} | {SLICES.get(name, stage_label(name)): as_object(part) for name, part in slices.items()}
    rows = []
    for name, part in parts.items():
        stages = {stage: as_object(figures) for stage, figures in as_object(part["stages"]).items()}
        for at, stage in enumerate(_compared(stages)):
            figures = [shown(stages[stage].get(column)) for column in SLICED]
            rows.append(SliceRow(*(("", "") if at else (name, f"{part['n']:,}")), stage_label(stage), figures))
    return rows


def _compared(stages: Mapping[str, Mapping[str, Json]]) -> list[str]:
    ndcg = {name: value for name, one in stages.items() if isinstance(value := one.get("ndcg@10"), int | float)}
    baselines = [name for name in ndcg if name not in OURS]
    ours = [name for name in ("retrieval", "fused", "features") if name in stages]
    return [*ours, *([max(baselines, key=ndcg.__getitem__)] if baselines else [])]


def stage_label(stage: str) -> str:
    """A readable name of a stage.

    >>> stage_label("popularity_7d"), stage_label("item_knn"), stage_label("bm25")
    ('popularity, 7 days', 'item-kNN', 'BM25')
    """
    return STAGE_LABELS.get(stage, stage.replace("_", " "))


def caption(task: Mapping[str, Json]) -> str:
    """How nDCG was computed, and what each part of the second stage changed, with its interval and the number of
    requests."""
    lines = [f"nDCG with {task['gain']}"]
    if "gain_judged" in task:
        lines[0] += f"; nDCG judged ignores unjudged items, {task['gain_judged']}"
    if "gain_plain" in task:
        lines[0] += f"; nDCG plain with {task['gain_plain']}; {task['pairs']:,} pairs"
    for name, found in as_object(task.get("changes", {})).items():
        change = as_object(found)
        before = stage_label(str(change["against"]))
        lines.append(f"{stage_label(name)} against {before}: {change_line(change)}")
    return "\n".join(lines)


def change_line(change: Mapping[str, Json]) -> str:
    """What a part of the second stage changed, in one line.

    >>> side = lambda mean: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    >>> change_line({"n": 4000, "before": side(.05), "after": side(.06), "change": side(.01)})
    'nDCG@10 .0500 -> .0600, change +.0100, 95 % interval +.0000 to +.0200, n = 4,000'
    """
    before, after, by = (as_object(change[part]) for part in ("before", "after", "change"))
    signs = [shown(by[part], sign=True) for part in ("mean", "low", "high")]
    return (
        f"nDCG@10 {shown(before['mean'])} -> {shown(after['mean'])}, change {signs[0]}, "
        f"95 % interval {signs[1]} to {signs[2]}, n = {change['n']:,}"
    )


def heading(column: str) -> str:
    """The column heading of a figure.

    >>> heading("recall@10"), heading("ndcg_judged@10"), heading("rmse")
    ('R@10', 'nDCG judged@10', 'RMSE')
    """
    name, at, k = column.partition("@")
    return SHORT[name] + at + k


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
