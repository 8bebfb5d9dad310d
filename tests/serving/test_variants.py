"""Variants of a product: an answer shows one of a group, names the others, and is as long as asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine_changes import ids, with_groups
from retrieval.data.dataset import DataSet
from serving.engine import Engine
from serving.request import Answer

SIZE, GROUPED = 20, 100  # rows of a group, and rows in groups; the others are alone


def group_of(row: int) -> str | None:
    return f"product-{row // SIZE}" if row < GROUPED else None


@pytest.fixture(scope="module")
def grouped(reranking: Engine) -> Engine:
    """The engine over items with groups."""
    return Engine(with_groups(reranking.state, group_of))


def groups(engine: Engine, answer: Answer) -> list[str]:
    """The group of each answered item, or its own id."""
    rows = engine.state.version.rows_of(ids(answer)).tolist()
    return [group_of(row) or item for row, item in zip(rows, ids(answer), strict=True)]


def test_an_answer_shows_the_best_of_each_group_and_names_the_others(grouped: Engine) -> None:
    every = grouped.search("red mug", k=120, one_per_group=False)
    found = grouped.search("red mug", k=120)
    assert all(not hit.variants for hit in every.items)
    assert "variants" not in every.items[0].to_dict()
    wanted = dict(zip(reversed(groups(grouped, every)), reversed(ids(every)), strict=True))  # the first of each
    assert ids(found) == [item for item in ids(every) if item in wanted.values()]
    assert len(found.items) == GROUPED // SIZE + 120 - GROUPED
    for hit, group in zip(found.items, groups(grouped, found), strict=True):
        others = {item for item, own in zip(ids(every), groups(grouped, every), strict=True) if own == group}
        assert set(hit.variants) == others - {hit.item_id}
    scores = [hit.score for hit in found.items]
    assert scores == sorted(scores, reverse=True)


def test_as_many_items_are_answered_as_were_asked_for(grouped: Engine, data: DataSet) -> None:
    short = Engine(replace(grouped.state, shortlist=10))
    for answer in (
        short.search("red mug", k=8),
        short.recommend(user_id=data.user_ids[0], k=8),
        short.recommend(k=8),
        short.similar(data.item_ids[0], k=8),
        short.complete_cart([data.item_ids[0]], k=8),
    ):
        assert len(answer.items) == len(set(groups(short, answer))) == 8


def test_what_came_with_the_request_stands_for_its_group(grouped: Engine, data: DataSet) -> None:
    for answer in (grouped.similar(data.item_ids[3], k=120), grouped.complete_cart([data.item_ids[3]], k=120)):
        assert group_of(3) not in groups(grouped, answer)
    own = grouped.similar(data.item_ids[3], k=120, one_per_group=False)
    assert len(own.items) == 119


def test_variants_that_filters_leave_out_are_neither_answered_nor_named(grouped: Engine, data: DataSet) -> None:
    kept = list(data.item_ids[:3])
    answer = grouped.search("red mug", filters=[("item_id", "in", kept)])
    assert len(answer.items) == 1
    assert {answer.items[0].item_id, *answer.items[0].variants} == set(kept)


def test_an_item_that_a_query_names_stands_for_its_group(grouped: Engine, data: DataSet) -> None:
    found = grouped.search(data.item_ids[7])
    assert ids(found)[0] == data.item_ids[7]
    assert len(found.items[0].variants) == SIZE - 1


def test_without_groups_nothing_changes(reranking: Engine) -> None:
    assert reranking.search("red mug").items == reranking.search("red mug", one_per_group=False).items


def test_figures_by_group_count_any_variant(grouped: Engine) -> None:
    by_group = grouped.state.version.groups
    assert by_group is not None
    assert by_group.representatives[[0, SIZE - 1, SIZE, GROUPED]].tolist() == [0, 0, SIZE, GROUPED]
    np.testing.assert_array_equal(by_group.variants(GROUPED), [])
