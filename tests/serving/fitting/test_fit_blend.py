"""The blend is fitted on ranker_valid, on what the engine would have answered, for each task apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import changed, filtering_seen, with_fusion
from ranking.ordering import blend as blend_module
from ranking.ordering.blend import Blend
from ranking.training.pairs import members
from retrieval.metrics.baselines import targets_of
from retrieval.topk import CSR, Hits
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import Step
from serving.answering.stages.read_query import read as read_queries
from serving.engine import Engine
from serving.evaluation.batch_requests import KnownLogits
from serving.evaluation.figures import relevant_rows
from serving.evaluation.labelled import LabelledRequests
from serving.fitting import fit_blend as blending
from serving.fitting.fit_blend import fitted_steps
from serving.settings import RunSettings
from serving.shop import Shop

NAMES = ("recommend", "recommend_unseen", "search", "grade")


@pytest.fixture(scope="module")
def engine(engine: Engine) -> Engine:
    """The release without an order of its own for carts, which its fold has hardly any of."""
    fusions = {name: one for name, one in engine.state.retriever.fusions.items() if name != "complete_cart"}
    return changed(engine, retriever=replace(engine.state.retriever, fusions=fusions))


Open = Callable[[Path, RunSettings], Shop]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


@pytest.fixture(scope="module")
def larger(shop: Shop) -> Shop:
    """The shop with the requests and queries of its training as ranker_valid: a fold to fit on."""
    assert shop.events is not None
    assert shop.judgements is not None
    events = replace(shop.events, folds={**shop.events.folds, "ranker_valid": shop.events.folds["test"]})
    queries = {**shop.judgements.folds, "ranker_valid": shop.judgements.folds["train"]}
    return replace(shop, events=events, judgements=replace(shop.judgements, folds=queries))


def _blends(state: ReleaseState, shop: Shop) -> Mapping[str, Blend]:
    (step,) = fitted_steps(state, shop, say=lambda _: None).steps
    return step.blends


def test_few_requests_leave_the_logit_alone(engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend_module, "MIN_LISTS", 10_000)
    assert _blends(engine.state, shop) == {name: Blend() for name in NAMES}


def test_the_fit_sees_whole_heads_of_shortlists_that_hold_a_target(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert larger.events is not None
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []
    monkeypatch.setattr(blending, "fit_blend", lambda *given: seen.append((*given, {})[:5]) or Blend())
    state = with_fusion(engine.state)
    _blends(state, larger)
    *orders, (_, _, grades, queries, _) = seen
    assert len(orders) == 3
    for (logits, retrieval, labels, indptr, parts), name in zip(orders, NAMES, strict=False):
        weights = state.retriever.fusion(name).weights
        assert parts.keys() == weights.keys()
        np.testing.assert_allclose(sum(weights[one] * parts[one] for one in weights), retrieval, atol=1e-4)
        lists = CSR(indptr, np.arange(len(labels)))
        assert lists.n_lists > 0
        assert (np.diff(indptr) == engine.state.depth).all()
        assert (np.add.reduceat(labels, indptr[:-1]) >= 1).all()
        assert (np.diff(retrieval.reshape(-1, engine.state.depth), axis=1) <= 1e-6).all()  # in retrieval's own order
        assert np.isfinite(logits).all()
    assert len(queries) - 1 == len(larger.judgements.folds["ranker_valid"])  # type: ignore[union-attr]
    assert grades.min() >= 0
    assert grades.max() <= 1


def test_a_ranker_that_knows_what_was_taken_decides_alone(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert larger.events is not None
    assert larger.judgements is not None
    targets = {
        "blend: recommend": targets_of(larger.events.folds["ranker_valid"]),
        "blend: recommend_unseen": targets_of(larger.events.folds["ranker_valid"]),
        "blend: search": relevant_rows(*larger.judged(larger.judgements.folds["ranker_valid"])),
    }

    def knows(_: object, step: Step, requests: np.ndarray, texts: list[str], hits: Hits, what: str) -> np.ndarray:
        return members(hits.rows, targets[what].select(requests)).astype(np.float32)

    monkeypatch.setattr(blend_module, "MIN_LISTS", 3)  # the tiny towers find few of the right items
    monkeypatch.setattr(KnownLogits, "of", knows)
    monkeypatch.setattr(blending, "pair_logits", lambda state, texts, pairs: grades_of(larger, state, texts, pairs))
    blends = _blends(engine.state, larger)
    for name in NAMES:
        assert blends[name].logit > 1  # of scores between 0 and 1, or grades


def grades_of(shop: Shop, state: ReleaseState, texts: list[str], pairs: CSR) -> np.ndarray:
    """The grade of each judged pair, found by the query's text as it is read and the item's row."""
    judged, queries = shop.data.judgements, shop.data.queries
    assert judged is not None
    assert queries is not None
    read = read_queries(state, queries.texts).corrected
    grades = {(read[q], int(i)): g for q, i, g in zip(judged.query, judged.item, judged.grade, strict=True)}
    return np.array([grades[texts[owner], row] for owner, row in zip(pairs.owners, pairs.rows.tolist(), strict=True)])


@pytest.mark.parametrize("removed", [True, False])
def test_what_a_shopper_had_is_in_no_list_where_it_is_removed(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    assert larger.events is not None
    past, had = LabelledRequests(engine.state, larger).past, list[np.ndarray]()
    taken = past.recommendations(larger.events.folds["ranker_valid"]).taken()

    def listen(_: object, step: Step, requests: np.ndarray, texts: list[str], hits: Hits, what: str) -> np.ndarray:
        if what != "blend: search":  # whose lines are queries
            had.append(members(hits.rows, taken.select(requests)))
        return np.zeros(hits.rows.shape, np.float32)

    monkeypatch.setattr(KnownLogits, "of", listen)
    _blends(filtering_seen(engine.state, removed), larger)
    assert had[0].any() != removed
    new = [lists for lists in had if len(lists) and not lists.any()]
    assert new  # the order of new things has none in any case


def test_no_more_lists_and_pairs_are_scored_than_so_few_weights_need(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(blending, "LISTS", 3)
    monkeypatch.setattr(blending, "PAIRS", 25)
    monkeypatch.setattr(
        blending, "fit_blend", lambda *given: sizes.append((len(given[3]) - 1, len(given[0]))) or Blend()
    )
    _blends(engine.state, larger)
    assert [lists for lists, _ in sizes[:3]] == [3, 3, 3]
    assert 0 < sizes[3][1] <= 25


def test_a_later_step_is_fitted_on_what_the_step_before_it_put_first(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[set[int]] = []
    monkeypatch.setattr(
        blending, "fit_blend", lambda *given: sizes.append(set(np.diff(given[3]).tolist())) or Blend(2.0)
    )
    (step,) = engine.state.steps
    state = replace(engine.state, steps=(replace(step, model="shallow"), replace(step, depth=4)))
    first, then = fitted_steps(state, larger, say=lambda _: None).steps
    fits = [10, 10] * 3 + [4, 4] * 3  # each order with the logit and without
    assert sizes[: len(fits)] == [{size} for size in fits]
    assert set(first.controls) == set(then.controls) == set(NAMES) - {"grade"}
    assert (set(first.blends), set(then.blends)) == (set(NAMES) - {"grade"}, set(NAMES))


def test_a_later_step_is_fitted_on_what_sources_gave_the_items_it_reads(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[np.ndarray, ...]] = []
    monkeypatch.setattr(blending, "fit_blend", lambda *given: seen.append(given) or Blend(2.0))
    (step,) = engine.state.steps
    steps = (replace(step, model="shallow"), replace(step, depth=4))
    state = replace(with_fusion(engine.state), steps=steps)
    fitted_steps(state, larger, say=lambda _: None)
    for (_, retrieval, _, _, parts), name in zip(seen[6:12:2], NAMES, strict=False):
        weights = state.retriever.fusion(name).weights
        np.testing.assert_allclose(sum(weights[one] * parts[one] for one in weights), retrieval, atol=1e-4)
        assert (np.diff(retrieval.reshape(-1, 4), axis=1) > 1e-3).any()  # the first step moved them


def test_scores_are_calibrated_on_lists_of_all_kinds_and_the_order_stays(
    engine: Engine, larger: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blending, "MIN_LISTS", 3)
    monkeypatch.setattr(blending, "fit_blend", lambda *_: Blend(2.0, 1.0, 5.0))  # far too sure of everything
    blended = fitted_steps(engine.state, larger, say=lambda _: None)
    for task, platt_scaling in blended.platt_scaling.items():
        blend = blended.steps[0].blends[task]
        assert blend.logit > 0
        assert blend.logit / blend.retrieval == pytest.approx(2.0)
        assert blend.offset < 5.0
        assert platt_scaling.after.error < platt_scaling.before.error
    assert blended.platt_scaling
