"""The figures of an evaluation as terminal tables: all stages and baselines side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from serving.evaluate import Json, as_object

if TYPE_CHECKING:
    from rich.table import Table

RANKED = ("recall@5", "recall@10", "recall@50", "recall@100", "ndcg@5", "ndcg@10", "mrr@10")
SEARCHED = ("recall@10", "recall@50", "recall@100", "ndcg@10", "mrr@10", "judged_share@10", "ndcg_judged@10")
JUDGED = ("ndcg@5", "ndcg@10", "ndcg_plain@10", "rmse", "spearman")
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
OURS = ("retrieval", "fused", "reranked", "final")

SPOKEN = {
    "popularity_7d": "popularity, 7 days",
    "popularity_30d": "popularity, 30 days",
    "item_knn": "item-kNN",
    "bm25": "BM25",
}


def tables(evaluation: Mapping[str, Json]) -> list[Table]:
    """One rich table for each task of `evaluate`'s object, the best of each column in bold."""
    tasks = as_object(evaluation["tasks"])
    found = [
        stage_table(f"recommend, {name.replace('_', ' ')}", as_object(task), RANKED)
        for name, task in as_object(tasks.get("recommend", {})).items()
    ]
    if "search" in tasks:
        found.append(stage_table("search, whole catalogue", as_object(tasks["search"]), SEARCHED))
    if "judged" in tasks:
        found.append(stage_table("order of judged items", as_object(tasks["judged"]), JUDGED))
    return found


def stage_table(title: str, task: Mapping[str, Json], columns: Sequence[str]) -> Table:
    """Stages as lines, figures as columns; a figure that a stage lacks is a dash."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    stages = {name: as_object(figures) for name, figures in as_object(task["stages"]).items()}
    columns = [column for column in columns if any(column in figures for figures in stages.values())]
    table = Table(title=f"{title}, n = {task['n']:,}", caption=caption(task), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column("stage", no_wrap=True)
    for column in columns:
        table.add_column(heading(column), justify="right")
    for name, figures in stages.items():
        cells = [
            Text(shown(figures.get(column)), "bold" if is_best(column, name, stages) else "") for column in columns
        ]
        table.add_row(Text(stage_name(name, figures, task), "cyan" if name in OURS else ""), *cells)
    return table


def stage_name(name: str, figures: Mapping[str, Json], task: Mapping[str, Json]) -> str:
    """The stage, and on how many requests where that is a sample.

    >>> stage_name("own_frequency", {}, {"n": 9}), stage_name("reranked", {"n": 4}, {"n": 9})
    ('own frequency', 'reranked, n=4')
    """
    return said(name) if figures.get("n", task["n"]) == task["n"] else f"{said(name)}, n={figures['n']:,}"


def said(stage: str) -> str:
    """The name of a stage as it is spoken.

    >>> said("popularity_7d"), said("item_knn"), said("bm25")
    ('popularity, 7 days', 'item-kNN', 'BM25')
    """
    return SPOKEN.get(stage, stage.replace("_", " "))


def caption(task: Mapping[str, Json]) -> str:
    """How nDCG was computed, and what reranking changed, on how many requests, with its interval."""
    lines = [f"nDCG with {task['gain']}"]
    if "gain_judged" in task:
        lines[0] += f"; nDCG judged passes over unjudged items, {task['gain_judged']}"
    if "gain_plain" in task:
        lines[0] += f"; nDCG plain with {task['gain_plain']}; {task['pairs']:,} pairs"
    for name, change in as_object(task.get("reranking", {})).items():
        lines.append(f"{name} against the order given: {change_line(as_object(change))}")
    return "\n".join(lines)


def change_line(change: Mapping[str, Json]) -> str:
    """What reranking changed, in one line.

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
    """The name of a figure over its column.

    >>> heading("recall@10"), heading("ndcg_judged@10"), heading("rmse")
    ('R@10', 'nDCG judged@10', 'RMSE')
    """
    name, at, k = column.partition("@")
    return SHORT[name] + at + k


def shown(value: Json, *, sign: bool = False) -> str:
    """Four places, no leading zero, as tables of this field have it.

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
