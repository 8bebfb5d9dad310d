"""Answers where a part fails or has no time: made without it, and saying so; faults of the caller stay errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from engine_changes import changed, ids, with_fusion
from retrieval.data.dataset import DataSet
from retrieval.errors import BadRequest
from serving.answering import pipeline
from serving.answering.deadline import RETRY_STAGE, StageTimes
from serving.answering.release_state import ReleaseState
from serving.engine import Engine
from serving.request import Request

PARTS = {
    "read_user": "what is known of the shopper",
    "read_query": "spelling correction",
    "encode": "text and history models",
    "retrieve": "sources beside the towers",
    "diversify": "diversity",
    "explain": "explanations",
}


class Broken:
    """Whatever is asked of it fails, but for what it was given."""

    def __init__(self, **known: object) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        raise OSError(f"{name} cannot be read")


@dataclass(frozen=True)
class Failing:
    """A source that fails when it is read."""

    def read(self, requests: object) -> Any:
        raise RuntimeError("the source is broken")


@pytest.fixture
def fused(reranking: Engine) -> Engine:
    """An engine that reranks over several sources, without anything observed of it."""
    return changed(Engine(with_fusion(reranking.state)), stage_times=StageTimes())


def broken(state: ReleaseState, part: str) -> ReleaseState:
    """A state of which one part fails."""
    retriever, users = state.retriever, state.user_contexts
    state = replace(state, stage_times=StageTimes())
    if part == "rerank":
        scorer = Broken(tokenizer=state.steps[0].scorer.tokenizer, activation="sigmoid")
        return replace(state, steps=(replace(state.steps[0], scorer=cast("Any", scorer)),))
    if part == "store":
        known = Broken(of_nobody=users.of_nobody, has_taken=lambda user: False)
        return replace(state, user_contexts=cast("Any", known))
    if part == "encoder":
        return replace(state, query_vectors=cast("Any", Broken(holds=lambda texts: False)))
    if part == "source":
        sources: Mapping[str, Any] = {**retriever.sources, "words": Failing(), "co_occurrence": Failing()}
        return replace(state, retriever=replace(retriever, sources=sources))
    assert part == "index"
    version = replace(retriever.version, index=cast("Any", Broken()))
    return replace(state, retriever=replace(retriever, version=version))


def test_a_ranker_that_fails_leaves_the_order_before(fused: Engine, data: DataSet) -> None:
    engine, user = Engine(broken(fused.state, "rerank")), data.user_ids[0]
    found = engine.recommend(user_id=user)
    assert found.degraded == ("rerank: failed",)
    assert not found.reranked
    assert ids(found) == ids(fused.recommend(user_id=user, rerank=False))


def test_of_a_store_that_cannot_be_read_every_shopper_is_a_stranger(fused: Engine, data: DataSet) -> None:
    engine, user = Engine(broken(fused.state, "store")), data.user_ids[0]
    found = engine.recommend(user_id=user, filter_seen=True)
    assert found.degraded == ("what is known of the shopper: failed",)
    assert found.fallbacks == ("popular items",)
    assert ids(found) == ids(fused.recommend(user_id="nobody", filter_seen=True))
    searched = engine.search("red mug", user_id=user)
    assert searched.degraded == found.degraded
    assert ids(searched) == ids(fused.search("red mug", user_id="nobody"))


def test_without_the_text_model_words_are_searched_for(fused: Engine) -> None:
    found = Engine(broken(fused.state, "encoder")).search("red mug", rerank=False)
    assert found.degraded == ("text and history models: failed",)
    assert found.items[0].sources == ("words",)


def test_a_source_that_fails_leaves_the_towers(fused: Engine, data: DataSet) -> None:
    engine, user = Engine(broken(fused.state, "source")), data.user_ids[0]
    found = engine.recommend(user_id=user, rerank=False)
    assert found.degraded == ("sources beside the towers: failed",)
    towers = changed(fused, retriever=replace(fused.state.retriever, fusions={}))
    assert ids(found) == ids(towers.recommend(user_id=user, rerank=False))


def test_the_chain_ends_at_what_is_popular(fused: Engine, data: DataSet) -> None:
    state = fused.state
    user = next(user for user in data.user_ids if state.user_contexts.has_taken(user))
    kept = set(ids(fused.recommend(user_id=user, k=120, filter_seen=True, rerank=False)))
    popular = state.version.ids_of(np.argsort(-state.retriever.popularity, kind="stable"))
    found = Engine(broken(state, "index")).recommend(user_id=user, rerank=False, filter_seen=True)
    assert found.degraded == ("retrieval, so popular items: failed",)
    assert ids(found) == [item for item in popular if item in kept][:10]
    assert len(kept) < len(popular)
    for part in ("encoder", "source", "index", "store", "rerank"):
        state = broken(state, part)
    nothing = Engine(state).search("red mug", user_id=user)
    assert ids(nothing) == popular[:10]
    assert [one.rpartition(": ")[0] for one in nothing.degraded] == [
        "what is known of the shopper",
        "text and history models",
        "retrieval, so popular items",
        "rerank",
    ]


def test_what_may_not_be_answered_is_not_whatever_fails(fused: Engine, data: DataSet) -> None:
    state, user = broken(broken(fused.state, "index"), "rerank"), data.user_ids[0]
    engine = Engine(state)
    cheap = set(ids(fused.recommend(k=120, filters="price < 20", rerank=False)))
    found = set(ids(engine.recommend(user_id=user, filters="price < 20", k=120)))
    assert found
    assert found <= cheap
    cart = data.item_ids[:3]
    assert not set(cart) & set(ids(engine.complete_cart(cart, k=120)))
    with pytest.raises(BadRequest, match="no column colour"):
        engine.recommend(user_id=user, filters="colour = red")


def test_many_requests_say_so_too(fused: Engine, data: DataSet) -> None:
    engine, users = Engine(broken(fused.state, "rerank")), data.user_ids[:3]
    (batch,) = engine.recommend_many(users, k=2)
    assert batch["degraded"].to_pylist() == [["rerank: failed"]] * 6
    alone = [fused.recommend(user_id=user, k=2, rerank=False) for user in users]
    assert batch["item_id"].to_pylist() == [item for answer in alone for item in ids(answer)]


def test_a_release_that_is_judged_is_not_spared(fused: Engine) -> None:
    with pytest.raises(OSError, match="cannot be read"):
        pipeline.answer(broken(fused.state, "rerank"), Request(query="red mug"))


def test_a_failure_is_logged_once(fused: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(broken(fused.state, "encoder"))
    with caplog.at_level(logging.WARNING):
        for query in ("red mug", "lamp", "saw"):
            assert engine.search(query).degraded
    (record,) = [one for one in caplog.records if one.name.endswith("otherwise")]
    assert "encode fails and is left out" in record.getMessage()
    assert record.exc_info is not None


class Known(StageTimes):
    """How long each stage takes, in milliseconds, is known; what is done instead takes no time."""

    def __init__(self, **milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def expected(self, name: Any) -> float:
        return 0.0 if name[-1] == "instead" else self.milliseconds.get(name[0], 0.0)


@pytest.mark.parametrize("stage", PARTS)
def test_what_has_no_time_is_left_out(fused: Engine, data: DataSet, stage: str) -> None:
    request = Request(
        query="garden chiar", user_id=data.user_ids[0], rerank=False, diversity=0.9, explain=True, deadline_ms=30_000
    )
    whole = fused.answer(request)
    assert whole.degraded == ()
    engine = changed(fused, stage_times=Known(**{stage: 60_000.0}))
    hurried = engine.answer(request)
    assert hurried.degraded == (f"{PARTS[stage]}: no time",)
    assert len(hurried.items) == 10
    if stage == "read_query":
        assert (whole.also_searched or whole.corrected_query) == "garden chair"
        assert hurried.also_searched == hurried.corrected_query == ""
    patient = engine.answer(replace(request, deadline_ms=None))
    assert (ids(patient), patient.degraded) == (ids(whole), ())


def test_what_would_not_have_run_is_not_said_to_be_left_out(fused: Engine) -> None:
    slow = dict.fromkeys(("read_query", "encode", "score", "diversify", "explain"), 60_000.0)
    hurried = changed(fused, stage_times=Known(**slow))
    assert hurried.recommend(deadline_ms=30_000, rerank=False).degraded == ()


def test_time_is_kept_for_the_stages_that_have_to_run(fused: Engine) -> None:
    hurried = changed(fused, stage_times=Known(encode=20_000.0, permit=9_000.0))
    found = hurried.search("red mug", deadline_ms=30_000, rerank=False)
    assert found.degraded == ("text and history models: no time",)
    assert hurried.search("red mug", deadline_ms=40_000, rerank=False).degraded == ()


def test_what_was_slow_is_tried_again() -> None:
    times = StageTimes()
    for _ in range(3):
        times.observe("encode", 90.0)
    assert [times.fits("encode", 50.0) for _ in range(RETRY_STAGE)] == [False] * (RETRY_STAGE - 1) + [True]
    times.observe("encode", 3.0)
    assert times.fits("encode", 50.0)
    times.observe("encode", 3.0)
    times.observe("encode", 900.0)
    assert times.expected("encode") == 3.0


def test_after_the_deadline_nothing_is_tried(fused: Engine) -> None:
    found = fused.search("garden chiar", deadline_ms=1e-6)
    assert found.degraded[:3] == tuple(f"{PARTS[one]}: no time" for one in ("read_user", "read_query", "encode"))
    assert len(found.items) == 10


def test_a_shopper_may_read_what_was_left_out(fused: Engine) -> None:
    found = fused.search("garden chiar", deadline_ms=1e-6)
    assert "spelling correction: no time" in found.notes()
    assert "时间不够，未使用拼写纠正" in found.notes("zh")
    assert Engine(broken(fused.state, "rerank")).search("mug").notes("zh") == ("暂时无法使用文本模型重排",)


def test_a_shopper_of_whom_nothing_could_be_read_in_time_gets_what_is_popular(fused: Engine, data: DataSet) -> None:
    found = fused.recommend(user_id=data.user_ids[0], deadline_ms=1e-6, filter_seen=False)
    popular = fused.state.version.ids_of(np.argsort(-fused.state.retriever.popularity, kind="stable"))
    assert ids(found) == popular[:10]
    assert f"{PARTS['read_user']}: no time" in found.degraded
    assert f"{PARTS['retrieve']}: no time" in found.degraded


def test_late_answers_leave_a_margin_for_those_after_them(fused: Engine) -> None:
    times = Known(describe=0.0)
    engine = changed(fused, stage_times=times)
    times.ended(1.0)
    before = times.margin_ms
    engine.search("red mug", deadline_ms=60_000)
    assert 0 < times.margin_ms < before
