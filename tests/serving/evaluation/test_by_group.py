"""Figures by product: any variant of what was wanted counts, and each product once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval.metrics.ranking import Places
from retrieval.topk import CSR, Hits
from serving.evaluation.by_group import BY_GROUP, by_group
from serving.evaluation.figures import MeasuredTask, task_figures

N = 24  # requests, enough for a slice
ITEMS = pa.table({"item_id": list("abcdef"), "group_id": ["x", "x", "y", "y", None, None]})


def task(rows: list[int], targets: list[int]) -> MeasuredTask:
    hits = Hits(np.array([rows] * N), np.array([range(len(rows), 0, -1)] * N, np.float32))
    places = Places(np.zeros(N * len(targets), np.int64), np.ones(N * len(targets), np.int64))
    return MeasuredTask(targets=CSR.from_lists([targets] * N), stages={"retrieval": hits, "popularity": places})


@pytest.mark.parametrize(
    ("rows", "targets", "mrr", "recall"),
    [
        ([0, 4], [1], 1.0, 1.0),  # another variant stands first
        ([0, 1, 2, 5], [5], 1 / 3, 1.0),  # both variants take one place
        ([4, 2], [2, 3], 1 / 2, 1.0),  # two variants that were wanted are one
        ([4, 5], [0], 0.0, 0.0),
        ([4, 5], [5], 1 / 2, 1.0),  # items without a group are each their own
    ],
)
def test_groups_count_in_place_of_items(rows: list[int], targets: list[int], mrr: float, recall: float) -> None:
    found = by_group({"search": task(rows, targets)}, ITEMS)["search"]
    figures = task_figures(found)["slices"][BY_GROUP]  # type: ignore[index,call-overload]
    assert figures["n"] == N  # type: ignore[index,call-overload]
    assert set(figures["stages"]) == {"retrieval"}  # type: ignore[index,arg-type,call-overload]
    stage = figures["stages"]["retrieval"]  # type: ignore[index,call-overload]
    assert stage["recall@10"] == pytest.approx(recall)  # type: ignore[index,call-overload]
    assert stage["mrr@10"] == pytest.approx(mrr)  # type: ignore[index,call-overload]


def test_what_was_ranked_of_a_sample_alone_is_counted_too() -> None:
    asked = task([0, 4], [1])
    sampled = {"final": asked.stages["retrieval"].select(np.arange(4))}  # type: ignore[union-attr]
    asked = MeasuredTask(targets=asked.targets, stages=asked.stages, sampled=sampled, sample=np.arange(4))
    (_, whole), (sample, part) = by_group({"search": asked}, ITEMS)["search"].variants[BY_GROUP].parts()
    assert (list(whole.stages), sample.tolist()) == (["retrieval"], [0, 1, 2, 3])
    assert part.stages["final"].rows[:, 0].tolist() == [0] * 4  # type: ignore[union-attr]


def test_without_groups_there_is_nothing_to_count() -> None:
    asked = task([0, 4], [1])
    assert by_group({"search": asked}, ITEMS.select(["item_id"]))["search"] is asked
