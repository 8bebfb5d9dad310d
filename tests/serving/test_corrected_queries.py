"""Misspelt queries: the engine, and all that measures or fits a release, read what was meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed, ids, with_fusion
from retrieval.sources.fusion import Fusion
from retrieval.text.spelling import Reading, Spelling
from serving.answering.release_state import ReleaseState
from serving.cli.show import notes_on
from serving.engine import Engine
from serving.evaluation.evaluator import NOISY, Measurement
from serving.evaluation.labelled import LabelledRequests
from serving.fitting import fit_fusion as fusing
from serving.fitting.fit_blend import valid_shortlists
from serving.fitting.fit_fusion import PermittedRequests, fit_fusions
from serving.jobs.canaries import Canary, user_vectors
from serving.settings import RunSettings
from serving.shop import Shop

MEANT = "titanium camp stove"


def test_a_word_that_no_item_has_is_read_as_the_one_that_was_meant(engine: Engine, reranking: Engine) -> None:
    for asked in (engine, reranking):
        meant = asked.search(MEANT)
        typed = asked.search("titanuim camp stoove")
        assert ids(typed) == ids(meant)
        assert [hit.score for hit in typed.items] == [hit.score for hit in meant.items]
        assert (typed.corrected_query, meant.corrected_query) == (MEANT, "")
        assert typed.to_dict()["corrected_query"] == MEANT
        assert f"searched for '{MEANT}'" in notes_on(typed)
        as_typed = asked.search("titanuim camp stoove", spellcheck=False)
        assert as_typed.corrected_query == ""
        assert [hit.score for hit in as_typed.items] != [hit.score for hit in typed.items]
    user = engine.state.user_store.user_ids[0].as_py()
    personal = engine.recommend(user_id=user, query="titanuim camp stoove")
    assert ids(personal) == ids(engine.recommend(user_id=user, query=MEANT))
    assert engine.recommend(user_id=user, query="titanuim camp stoove", spellcheck=False).corrected_query == ""


def test_where_a_word_may_be_right_both_are_searched_for_and_the_answer_says_so(engine: Engine) -> None:
    assert engine.state.spelling is not None
    spelling = replace(engine.state.spelling, items={**engine.state.spelling.items, "stovf": 1}, _cache={})
    doubting = changed(engine, spelling=replace(spelling, is_word=lambda word: False))
    answer = doubting.search("titanium stove xtove")
    both = doubting.search("titanium stove xtove stove", spellcheck=False)
    assert [hit.score for hit in answer.items] == [hit.score for hit in both.items]
    assert (answer.corrected_query, answer.also_searched) == ("", "titanium stove stove")
    assert answer.to_dict()["also_searched"] == "titanium stove stove"
    assert "searched for 'titanium stove stove' as well" in notes_on(answer)
    assert doubting.search("titanium stove").also_searched == ""


class AllMean(Spelling):
    """Takes whatever is asked for the same."""

    def read(self, text: str) -> Reading:
        return Reading(MEANT, MEANT, MEANT)


@pytest.fixture(scope="module")
def state(engine: Engine) -> ReleaseState:
    """For which all queries are one."""
    return replace(with_fusion(engine.state), spelling=AllMean({}))


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Callable[..., Shop]) -> Shop:
    return open_shop(sample_folder, quick_settings)


def test_evaluation_ranks_what_was_meant_and_baselines_what_was_typed(state: ReleaseState, shop: Shop) -> None:
    task = Measurement(state, shop, 0).tasks(None)["search"]
    wanted = Engine(state).search(MEANT, k=100, rerank=False)
    for stages in (task.stages, task.variants[NOISY].stages):
        fused, towers, words = (stages[name].rows for name in ("fused", "retrieval", "bm25"))  # type: ignore[union-attr]
        assert all(state.version.ids_of(line) == ids(wanted) for line in fused)
        assert len({tuple(line) for line in towers.tolist()}) == 1
        assert len({tuple(line) for line in words.tolist()}) > 1


def test_blends_are_fitted_on_what_was_meant(state: ReleaseState, shop: Shop) -> None:
    given = next(one for one in valid_shortlists(state, shop) if one.order == "search")
    assert set(given.texts) == {MEANT}
    assert len({tuple(line) for line in given.found.batch.candidates.hits.rows.tolist()}) == 1


def test_searches_of_a_fold_are_read_as_they_were_meant(state: ReleaseState, shop: Shop) -> None:
    requests = LabelledRequests(state, shop)
    personal = requests.personalised_searches("test")
    assert personal is not None
    for batch in (requests.searches("gate").batch, personal.batch):
        assert set(batch.queries.corrected) == {MEANT}
        assert len(set(batch.queries.typed)) > 1


def test_the_fusion_is_fitted_on_what_was_meant(
    state: ReleaseState, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[PermittedRequests] = []
    monkeypatch.setattr(fusing, "fit", lambda _, found, __: given.append(found) or Fusion.of_towers())
    dict(fit_fusions(state, shop))
    batch = given[-1].batch
    assert set(batch.queries.corrected) == {MEANT}
    (vector,) = state.user_tower.queries([MEANT])
    np.testing.assert_allclose(batch.vectors, np.broadcast_to(vector, batch.vectors.shape), atol=1e-6)


def test_an_id_is_looked_up_as_it_was_typed(engine: Engine, state: ReleaseState) -> None:
    answer = changed(engine, spelling=state.spelling).search("item-00030", rerank=False)
    assert (answer.items[0].item_id, answer.corrected_query) == ("item-00030", MEANT)
    assert answer.items[1].item_id == engine.search(MEANT, rerank=False).items[0].item_id


def test_canaries_ask_for_what_was_meant(state: ReleaseState) -> None:
    canaries = [Canary(wanted=("item-00001",), query=text) for text in ("red mug", "blue lamp")]
    first, then = user_vectors(state, canaries)
    np.testing.assert_allclose(first, then, atol=1e-6)
