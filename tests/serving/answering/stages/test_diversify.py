"""Answers of unlike items: as much as the request asks for, and never other items than could be answered."""

from __future__ import annotations

import numpy as np
import pytest

from engine_changes import ids
from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from retrieval.metrics.beyond_accuracy import diversity_at
from retrieval.topk import Hits
from serving.engine import Engine
from serving.request import Answer, Request


def unlikeness(engine: Engine, answer: Answer) -> float:
    """The mean distance of the answered items by the vectors of the item tower."""
    version = engine.state.version
    rows = version.rows_of(ids(answer))[None]
    return float(diversity_at(Hits(rows, rows.astype(np.float32)), version.vectors_at(np.arange(version.size)), 10)[0])


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_more_diversity_gives_less_similar_items_from_the_same_shortlist(
    reranking: Engine, data: DataSet, method: str
) -> None:
    plain = [reranking.recommend(user_id=user, k=5) for user in data.user_ids[:8]]
    much = [
        reranking.recommend(user_id=user, k=5, diversity=0.8, diversify_by=method)  # type: ignore[arg-type]
        for user in data.user_ids[:8]
    ]
    spread = [[unlikeness(reranking, answer) for answer in answers] for answers in (plain, much)]
    assert np.mean(spread[1]) > np.mean(spread[0])
    for user, answer in zip(data.user_ids, much, strict=False):
        shortlist = reranking.recommend(user_id=user, k=100)
        assert len(set(ids(answer))) == 5
        assert set(ids(answer)) <= set(ids(shortlist))
        assert {hit.item_id: hit.score for hit in answer.items}.items() <= {
            hit.item_id: pytest.approx(hit.score) for hit in shortlist.items
        }.items()


def test_none_changes_nothing(reranking: Engine, data: DataSet) -> None:
    plain, none = (reranking.search("red mug", **given) for given in ({}, {"diversity": 0.0}))  # type: ignore[arg-type]
    assert plain.items == none.items


def test_what_a_query_names_by_its_id_stays_first(reranking: Engine, data: DataSet) -> None:
    assert ids(reranking.search(data.item_ids[30], diversity=1.0))[0] == data.item_ids[30]


@pytest.mark.parametrize("wrong", [{"diversity": 1.5}, {"diversity": True}, {"diversify_by": "random"}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="diver"):
        Request(**wrong)  # type: ignore[arg-type]
