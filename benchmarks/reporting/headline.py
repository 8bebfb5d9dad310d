"""The small table of README: quality and latency of a release, beside the best baseline or peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.latency.by_stage import WHOLE
from benchmarks.quality.parts import OF
from benchmarks.result_lines import Line, latest, read
from benchmarks.terminal import number
from retrieval.errors import BadData
from serving.internals import OURS, shown, stage_label

HEADS = ("data set", "task", "nDCG@10", "best other", "R@100", "best other", "median ms")
METRICS = ("ndcg@10", "recall@100")


class Shop(NamedTuple):
    """A data set of the table, by the name of its files of results."""

    title: str
    task: str  # in words
    measured: str  # the task of its lines of quality
    call: str  # whose time stands in the last column


SHOPS = {
    "homedepot": Shop("Home Depot, 54,667 titles", "search", "search", "search"),
    "beauty": Shop("Amazon Beauty, 12,101 items", "next purchase", "seen_removed", "recommend"),
}


def headline(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """A row for each data set: the best of our stages and the best other, by metric, and the median time of a call.

    Reads NAME.jsonl, NAME-peers.jsonl and NAME-latency.jsonl. Raises BadData where one of them is missing or a name is
    not known.
    """
    for name in names:
        if name not in SHOPS:
            raise BadData(f"<!-- bench headline {name} -->: no such data set; there are {', '.join(SHOPS)}")
    return [list(HEADS), *(_row(folder, name, SHOPS[name]) for name in names)]


def _row(folder: Path, name: str, shop: Shop) -> list[str]:
    lines = [line for part in (name, f"{name}-peers") for line in _lines(folder / f"{part}.jsonl")]
    figures = {metric: _by_stage(lines, shop.measured, metric) for metric in METRICS}
    cells = [cell for metric in METRICS for cell in (_best(figures[metric], True), _best(figures[metric], False))]
    times = [line for line in _lines(folder / f"{name}-latency.jsonl") if _is_whole(line, shop.call)]
    return [shop.title, shop.task, *cells, number(times[-1].summary["p50"] if times else None)]


def _lines(path: Path) -> list[Line]:
    return [one.line for one in latest(read(path))]


def _is_whole(line: Line, call: str) -> bool:
    return line.measured == "latency" and (line.labels["call"], line.labels["stage"]) == (call, WHOLE)


def _by_stage(lines: Sequence[Line], task: str, metric: str) -> dict[str, float]:
    """The mean of each stage over all requests of a task; what was measured on a sample is left out."""
    wanted = {"task": task, "metric": metric}
    whole = [line for line in lines if line.measured == "quality" and OF not in line.labels]
    found = [line for line in whole if wanted.items() <= line.labels.items()]
    most = max((line.summary["n"] or 0.0 for line in found), default=0.0)
    return {line.labels["stage"]: line.summary["mean"] or 0.0 for line in found if line.summary["n"] == most}


def _best(stages: Mapping[str, float], ours: bool) -> str:
    """The best figure of our stages, in bold, or of all others, with its name."""
    among = {stage: mean for stage, mean in stages.items() if (stage in OURS) is ours}
    if not among:
        return "–"
    best = max(among, key=among.__getitem__)
    return f"**{shown(among[best])}**" if ours else f"{shown(among[best])} ({stage_label(best)})"
