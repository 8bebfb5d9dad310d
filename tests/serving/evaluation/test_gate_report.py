"""Gates as a release holds them: a verdict for each task that could be judged, and what it lets on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from ranking.ordering.blend import Blend
from ranking.ordering.gate import Verdict, gate
from retrieval.sources.fusion import Fusion
from serving.answering.release_settings import gates_passed
from serving.evaluation.evaluator import Measurement
from serving.evaluation.gate_report import decided
from serving.evaluation.reranking import Gated

BETTER, WORSE = gate(np.zeros(40), np.full(40, 0.1)), gate(np.full(40, 0.1), np.zeros(40))


def measured(**gates: Gated) -> Measurement:
    """What gave these verdicts, with weights of search that differ from those of recommendation."""
    step = SimpleNamespace(blend=lambda order: Blend(1.0, 2.0 if order == "search" else 0.5))
    first = SimpleNamespace(blend=lambda order: Blend(0.0, 1.0))
    fusions = SimpleNamespace(
        fusions={}, fusion=lambda order: Fusion({"towers": 3.0, "words": 1.0 * (order == "search")})
    )
    state = SimpleNamespace(steps=(first, step), retriever=fusions, feature_ranker=lambda order, gate: None)
    return cast("Measurement", SimpleNamespace(state=state, gates=lambda: gates))


def test_a_task_without_a_gate_fold_has_no_gate() -> None:
    assert decided(measured(), "likely", {}, say=lambda _: None) == {}


@pytest.mark.parametrize(("required", "on"), [("likely", {"search"}), ("no", {"search", "recommend"})])
def test_reranking_is_on_where_the_verdict_is_as_good_as_required(required: Verdict, on: set[str]) -> None:
    said: list[str] = []
    gated = measured(recommend=Gated(WORSE, {}), search=Gated(BETTER, {"bm25": WORSE}))
    gates = decided(gated, required, {}, say=said.append)
    assert {task for task, found in gates.items() if found["on"]} == on
    assert on <= gates_passed(gates)
    assert gates["search"]["blend"] == Blend(1.0, 2.0).as_json()  # that of the last step
    assert gates["search"]["weights"] == {"logit": 1.0, "towers": 6.0, "words": 2.0}
    assert gates["recommend"]["weights"] == {"logit": 1.0, "towers": 1.5}
    assert gates["search"]["against"] == {"bm25": WORSE.as_json()}  # which decides nothing
    assert [line.split(": ")[0] for line in said] == [
        f"gate, {task}"
        for task in (
            *(f"{one}, with the cross-encoder against without" for one in ("recommend", "search")),
            "search, against bm25",
        )
    ]


@pytest.mark.parametrize(("values", "on"), [([0.1] * 30, True), ([0.1] * 5 + [-0.08] * 3 + [0.0] * 22, False)])
def test_of_few_users_a_cross_encoder_has_to_be_proven(values: list[float], on: bool) -> None:
    verdict = gate(np.zeros(30), np.array(values))
    assert verdict.passes("likely")
    gated = measured(search=Gated(verdict, {}))
    assert decided(gated, "likely", {}, min_users=30, say=lambda _: None)["search"]["on"]
    assert decided(gated, "likely", {}, min_users=31, say=lambda _: None)["search"]["on"] == on
    assert decided(gated, "no", {}, min_users=31, say=lambda _: None)["search"]["on"]


def test_a_task_is_gated_with_the_weights_of_the_order_that_it_is_answered_in() -> None:
    gated = measured(personalised_search=Gated(BETTER, {}), complete_cart=Gated(WORSE, {}))
    gates = decided(gated, "likely", {}, say=lambda _: None)
    assert gates["personalised_search"]["weights"] == {"logit": 1.0, "towers": 6.0, "words": 2.0}
    assert gates["complete_cart"]["weights"] == {"logit": 1.0, "towers": 1.5}
    assert gates_passed(gates) == {"personalised_search"}


def test_a_task_without_a_gate_of_its_own_follows_the_one_that_it_is_like() -> None:
    shut = decided(measured(personalised_search=Gated(WORSE, {})), "likely", {}, say=lambda _: None)
    opened = decided(measured(search=Gated(BETTER, {}), recommend=Gated(BETTER, {})), "likely", {}, say=lambda _: None)
    assert gates_passed(opened) == {
        "search", "personalised_search", "recommend", "recommend_unseen", "complete_cart"
    }  # fmt: skip
    assert gates_passed(opened | shut) == {"search", "recommend", "recommend_unseen", "complete_cart"}
