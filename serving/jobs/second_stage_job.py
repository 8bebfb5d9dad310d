"""The second stage of a run: rankers over features are chosen, gated, and fitted again on all folds before test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from ranking.features.facts import ShopFacts
from ranking.training.feature_ranker.choose import Chosen
from retrieval.fingerprint import folder_fingerprint
from serving.answering.release_settings import (
    OrderName,
    ReleaseSettings,
    features_passed,
    gates_passed,
    weights_for_task,
    with_settings,
)
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.answering.tasks import orders_of_gates
from serving.evaluation.evaluator import Measurement
from serving.evaluation.gate_report import features_decided
from serving.fitting.fit_fusion import fit_fusions
from serving.fitting.fit_second_stage import REFITTED, FeatureFitting
from serving.jobs.bundle_parts import plain
from serving.settings import RankConfig
from serving.shop import Shop


def fitted_second_stage(
    bundle: Bundle,
    draft: Release,
    measured: Measurement,
    config: RankConfig,
    *,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Release, Mapping[OrderName, Chosen]]:
    """The draft with rankers over features and step 1 of its gates, and the rankers of the orders that it lets on, as
    they were chosen. `measured` is the draft over its shop. What the gate does not let on is left out."""
    state = measured.state
    kinds = None if config.order == "auto" else (config.order,)
    chosen = FeatureFitting(state, measured.shop, seed, say).chosen(kinds)
    if not chosen:
        return draft, {}
    stage = SecondStage({order: one.ranker for order, one in chosen.items()})
    gates = features_decided(replace(measured, state=replace(state, second_stage=stage)), config.gate, say=say)
    used = orders_of_gates(features_passed(gates), state.retriever.fusions)
    on = {order for order in chosen if _answers(order, used)}
    kept = {order: one for order, one in chosen.items() if order in on}
    figures = {"second_stage": plain({order: {**one.figures, "kind": one.kind} for order, one in chosen.items()})}
    draft = replace(draft, gates=plain(gates), figures={**draft.figures, **figures})
    return with_second_stage(bundle, draft, stage.only(on), state.facts), kept


def refitted_second_stage(
    bundle: Bundle,
    draft: Release,
    open_draft: Callable[[Release], ReleaseState],
    shop: Shop,
    chosen: Mapping[OrderName, Chosen],
    *,
    seed: int,
    say: Callable[[str], None],
) -> Release:
    """The draft with fusion and the `chosen` rankers fitted on every fold before test: the procedure is what was gated.
    The fusion stays where a cross-encoder that passed its gate is blended with it."""
    read, fusions = gates_passed(draft.gates), dict(ReleaseSettings.of(draft).fusion)
    used = orders_of_gates(read, fusions)
    for order, fusion in fit_fusions(open_draft(draft), shop, REFITTED["recommend"]):
        if order != "search" and not _answers(order, used):
            say(f"fusion on all folds, {order}: {fusion}")
            fusions[order] = fusion.as_json()
    draft = with_settings(draft, fusion=fusions)
    state = open_draft(replace(draft, second_stage=None))
    stage = FeatureFitting(state, shop, seed, say).refitted(chosen)
    draft = replace(draft, figures={**draft.figures, "refitted_on": plain({o: list(REFITTED[o]) for o in chosen})})
    return with_second_stage(bundle, draft, stage, state.facts)


def with_second_stage(bundle: Bundle, draft: Release, stage: SecondStage, facts: ShopFacts) -> Release:
    """The draft with rankers over features as a part of the bundle; without any, none."""
    if not stage.rankers:
        return replace(draft, second_stage=None)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "second_stage"
        folder.mkdir()
        stage.write(folder, facts)
        name = folder_fingerprint(folder)
        bundle.add("second_stage", name, folder, requires={"towers": draft.towers})
    return replace(draft, second_stage=name)


def _answers(order: OrderName, used: Collection[str]) -> bool:
    """Whether an order, or one that it stands in for, is among those that are used."""
    return weights_for_task(dict.fromkeys(used, True), order, False)
