"""The sources that an engine fuses: each hit names its own, and one that is lacking is passed over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine_changes import FUSIONS, by_towers_alone, changed, ids, taken, with_fusion
from retrieval.data.dataset import DataSet
from retrieval.sources.fusion import Fusion
from serving.answering.stages.describe import POPULAR
from serving.engine import Engine


def test_every_hit_names_the_sources_that_proposed_it(engine: Engine, data: DataSet) -> None:
    fused = Engine(with_fusion(engine.state))
    user = data.user_ids[0]
    answer = fused.recommend(user_id=user, k=100, filter_seen=False)
    own = taken(data, 0, engine.state.user_contexts.targets)
    assert own <= set(ids(answer))
    for hit in answer.items:
        assert ("own_frequency" in hit.sources) == (hit.item_id in own)
        assert hit.sources
    alone = Engine(by_towers_alone(engine.state))
    assert {hit.sources for hit in alone.recommend(user_id=user).items} == {("towers",)}


@pytest.mark.parametrize("fuse", [False, True])
def test_an_item_that_is_searched_by_its_id_stands_first(reranking: Engine, data: DataSet, fuse: bool) -> None:
    engine = Engine(with_fusion(reranking.state)) if fuse else reranking
    for row in (0, 7, 33):
        answer = engine.search(f" {data.item_ids[row]} ", k=5)
        assert ids(answer)[0] == data.item_ids[row]
        assert "exact" in answer.items[0].sources
        assert not any("exact" in hit.sources for hit in answer.items[1:])
        assert answer.reranked


def test_a_source_that_a_release_lacks_is_passed_over(engine: Engine) -> None:
    lacking = replace(engine.state.retriever, sources={}, fusions=FUSIONS)
    bare = changed(engine, retriever=lacking)
    alone = Engine(by_towers_alone(engine.state))
    assert ids(bare.search("red mug")) == ids(alone.search("red mug"))


def test_a_shopper_of_whom_the_towers_know_nothing_is_answered_by_what_sells_now(engine: Engine) -> None:
    fused = Engine(with_fusion(engine.state))
    answer = fused.recommend(history=[], k=5)
    assert all(hit.sources == ("popularity_30d",) for hit in answer.items)
    assert answer.fallbacks == (POPULAR,)


def test_what_did_not_sell_of_late_follows_what_did(engine: Engine, data: DataSet) -> None:
    a_week = Engine(with_fusion(engine.state, recommend=Fusion({"towers": 1.0, "popularity_7d": 1.0})))
    answer = a_week.recommend(user_id="nobody", k=data.n_items)
    assert sorted(ids(answer)) == sorted(data.item_ids)
    assert (np.diff([hit.score for hit in answer.items]) <= 0).all()
    proposed = [bool(hit.sources) for hit in answer.items]
    assert proposed == sorted(proposed, reverse=True)
    assert 0 < sum(proposed) < data.n_items
    assert set(ids(answer)[: sum(proposed)]) <= set(ids(a_week.recommend(user_id="nobody", k=sum(proposed))))
