"""What a deadline leaves out, and how misspelt queries are read: by the engine, and by all that measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.models.frontier import search_lists
from engine_changes import changed, ids
from indexing.bundle.bundle import Bundle
from retrieval.errors import BadRequest
from retrieval.text.spelling import Spelling
from serving.answering.release_state import ReleaseState
from serving.answering.stages import Pace, Stages
from serving.cli.show import notes_on
from serving.engine import Engine
from serving.evaluation.batch_requests import query_shortlists
from serving.evaluation.evaluator import Measurement
from serving.evaluation.slices import noisy_queries
from serving.fitting import fit_fusion as fusing
from serving.fitting.fit_blend import valid_shortlists
from serving.fitting.fit_fusion import Outcomes, fit_fusions
from serving.jobs.canaries import Canary, user_vectors
from serving.settings import RunConfig
from serving.shop import Shop


def test_what_a_deadline_cuts_is_named_and_nobody_else_notices(reranking: Engine) -> None:
    whole, given = reranking.search("red mug"), reranking.search("red mug", rerank=False)
    assert whole.degraded == given.degraded == ()
    patient = reranking.search("red mug", deadline_ms=1e6)
    assert (ids(patient), patient.degraded) == (ids(whole), ())
    depth = reranking.stages.depth
    for hurried in (
        reranking.search("red mug", deadline_ms=1e-3),
        reranking.recommend(query="red mug", deadline_ms=1e-3, filter_seen=False),
    ):
        assert ids(hurried) == ids(given)
        assert not hurried.reranked
        assert hurried.degraded == (f"rerank, full model: 0 of {depth} places",)
        assert hurried.to_dict()["degraded"] == list(hurried.degraded)
        assert notes_on(hurried).endswith(
            f"not reranked, {hurried.degraded[0]}, {sum(hurried.timings_ms.values()):.0f} ms"
        )
    assert reranking.complete_cart(["item-00003"], deadline_ms=1e-3).degraded
    assert reranking.search("red mug", rerank=False, deadline_ms=1e-3).degraded == ()


def test_of_fewer_candidates_than_fit_none_is_cut(reranking: Engine) -> None:
    (step,), pace = reranking.stages.steps, Pace()
    pace.took(1, 10_000.0)
    stages = replace(reranking.stages, steps=(replace(step, pace=pace),))
    engine = changed(reranking, stages=stages)
    five = [("item_id", "in", [f"item-{row:05}" for row in range(5)])]
    answer = engine.search("red mug", filters=five, deadline_ms=90_000.0)  # seven places fit
    assert (len(answer.items), answer.reranked, answer.degraded) == (5, True, ())


def test_a_release_with_the_same_ranker_keeps_its_pace(bundle_path: Path, engine: Engine) -> None:
    again = ReleaseState.of_release(Bundle.open(bundle_path), engine.release, device="cpu", like=engine.state)
    assert again.stages.steps[0].pace is engine.stages.steps[0].pace


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), True, "10"])
def test_a_deadline_that_is_no_time_is_refused(engine: Engine, deadline: object) -> None:
    with pytest.raises(BadRequest, match="give milliseconds above 0"):
        engine.search("red mug", deadline_ms=deadline)  # type: ignore[arg-type]


def test_a_word_that_no_item_has_is_read_as_the_one_that_was_meant(engine: Engine, reranking: Engine) -> None:
    for asked in (engine, reranking):
        meant = asked.search("titanium camp stove")
        typed = asked.search("titanuim camp stoove")
        assert ids(typed) == ids(meant)
        assert [hit.score for hit in typed.items] == [hit.score for hit in meant.items]
        assert (typed.corrected_query, meant.corrected_query) == ("titanium camp stove", "")
        assert typed.to_dict()["corrected_query"] == "titanium camp stove"
        assert "searched for 'titanium camp stove'" in notes_on(typed)
        as_typed = asked.search("titanuim camp stoove", spellcheck=False)
        assert as_typed.corrected_query == ""
        assert [hit.score for hit in as_typed.items] != [hit.score for hit in typed.items]
    user = engine.shoppers.user_ids[0].as_py()
    personal = engine.recommend(user_id=user, query="titanuim camp stoove")
    assert ids(personal) == ids(engine.recommend(user_id=user, query="titanium camp stove"))
    assert engine.recommend(user_id=user, query="titanuim camp stoove", spellcheck=False).corrected_query == ""


class AllMean(Spelling):
    """Takes whatever is asked for the same."""

    def corrected(self, text: str) -> str:
        return "titanium camp stove"


class Read(NamedTuple):
    """Stages for which all queries are one, a shop, and the shortlist of that one, int64 [k]."""

    stages: Stages
    shop: Shop
    rows: np.ndarray


@pytest.fixture
def read(engine: Engine, sample_folder: Path, quick_settings: RunConfig, open_shop: Callable[..., Shop]) -> Read:
    stages = replace(engine.stages, spelling=AllMean({}))
    (text,) = stages.spelled(["whatever"])
    rows = query_shortlists(stages, [text], stages.user.queries([text])).rows[0]
    return Read(stages, open_shop(sample_folder, quick_settings), rows)


def test_evaluation_ranks_the_queries_that_the_engine_would_read(read: Read) -> None:
    task = Measurement(read.stages, read.shop, True, 0).tasks(None, {})["search"]
    for stages in (task.stages, task.variants["noisy_queries"].stages):
        assert (stages["fused"].rows == read.rows).all()
        assert len({tuple(line) for line in stages["retrieval"].rows.tolist()}) == 1
        assert len({tuple(line) for line in stages["bm25"].rows.tolist()}) > 1  # a baseline reads what was typed


def test_misspelt_queries_are_reranked_where_a_benchmark_asks(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, reranked = Measurement(read.stages, read.shop, True, 0), list[list[str]]()
    assert not measurement.tasks(None, {})["search"].variants["noisy_queries"].sampled
    ranked = Measurement._ranked
    monkeypatch.setattr(Stages, "spelled", lambda _, texts: [f"{text}, read" for text in texts])
    monkeypatch.setattr(
        Measurement, "_ranked",
        lambda self, hits, targets, texts, *more, **options: reranked.append(texts)
        or ranked(self, hits, targets, texts, *more, **options),
    )  # fmt: skip
    task = measurement.tasks(None, {}, noisy_reranked=True)["search"]
    assert set(task.variants["noisy_queries"].sampled) == set(task.sampled)
    assert read.shop.judgements is not None
    queries = read.shop.judgements.folds["test"]
    assert reranked[-1] == [f"{text}, read" for text in noisy_queries(read.shop, queries)]
    assert reranked[-1] != reranked[-2]


def test_gate_blends_and_frontier_rank_the_queries_that_the_engine_would_read(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[np.ndarray] = []
    monkeypatch.setattr(Measurement, "_ranked", lambda _, hits, *__, **___: ranked.append(hits.rows) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Measurement(read.stages, read.shop, True, 0).gate_search()
    told = next(one for one in valid_shortlists(read.stages, read.shop, remove_seen=True) if one.name == "search")
    assert set(told.texts) == {"titanium camp stove"}
    for rows in (*ranked, told.hits.rows, search_lists(read.stages, read.shop, "test").hits.rows):
        assert (rows == read.rows).all()


def test_the_fusion_is_fitted_on_what_the_engine_would_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Outcomes] = []
    monkeypatch.setattr(fusing, "fit", lambda _, outcomes, __: told.append(outcomes) or 1)
    dict(fit_fusions(read.stages, read.shop, remove_seen=True))
    assert set(told[-1].asked.queries) == {"titanium camp stove"}
    (vector,) = read.stages.user.queries(["titanium camp stove"])
    np.testing.assert_allclose(told[-1].vectors, np.broadcast_to(vector, told[-1].vectors.shape), atol=1e-6)


def test_an_id_is_looked_up_as_it_was_typed(engine: Engine, read: Read) -> None:
    answer = changed(engine, stages=read.stages).search("item-00030", rerank=False)
    assert (answer.items[0].item_id, answer.corrected_query) == ("item-00030", "titanium camp stove")
    assert answer.items[1].item_id == engine.search("titanium camp stove", rerank=False).items[0].item_id


def test_canaries_ask_what_the_engine_would_read(engine: Engine, read: Read) -> None:
    opened = replace(engine.state, stages=read.stages)
    asked = user_vectors(opened, [Canary(wanted=("item-00001",), query=text) for text in ("red mug", "blue lamp")])
    np.testing.assert_allclose(asked[0], asked[1], atol=1e-6)
