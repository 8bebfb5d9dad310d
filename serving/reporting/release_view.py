"""What the release that answers is made of, and how good it is: for people who look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from indexing.bundle.releases import rerank_gates
from ranking.feature_ranker.gains import feature_gains
from ranking.features.registry import features_of
from serving.answering.release_settings import OrderName
from serving.evaluation.figures import Json, as_object
from serving.reporting.gate_cards import gates
from serving.reporting.gate_words import gate_sentences
from serving.reporting.report_view import tasks_of
from serving.reporting.tables import OURS, caption, slice_label, stage_label, task_title
from serving.texts.catalogue import Language

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

LISTED = 24  # features of an order, those of the largest gain
ORDERS: tuple[OrderName, ...] = ("recommend", "recommend_unseen", "search", "complete_cart")  # as they are told


def release_view(state: ReleaseState, language: Language = "en") -> dict[str, Any]:
    """The gates in words, figures by task, stage and slice, the tuner's curve, the sources' weights, and features."""
    release = state.release
    passed = rerank_gates(release)
    return {
        "release": release.id,
        "created": release.created,
        "who": release.who,
        "why": release.why,
        "index_revision": state.version.revision,
        "gates": [card._asdict() for card in gates({"gate": passed}, language)],
        "verdicts": list(gate_sentences(passed, language)),
        "quality": list(_quality(release.figures.get("evaluation"), language)),
        "index": _index(state),
        "sources": list(_sources(state, language)),
        "features": list(_features(state, language)),
    }


def _quality(evaluation: Json, language: Language) -> Iterator[dict[str, Any]]:
    """Each evaluated task; where some stages were run for a sample of its requests alone, that sample, too."""
    if not isinstance(evaluation, Mapping):
        return
    for name, task in tasks_of({"tasks": evaluation}).items():
        sample = as_object(task["sample"]) if "sample" in task else None
        yield {
            "task": name,
            "title": task_title(name, language),
            "n": task["n"],
            "note": caption(task, language),
            "stages": _stages(task, language),
            "sample": None if sample is None else {"n": sample["n"], "stages": _stages(sample, language)},
            "slices": [
                {
                    "slice": part,
                    "title": slice_label(part, language),
                    "n": as_object(of)["n"],
                    "stages": _stages(as_object(of), language),
                }
                for part, of in as_object(task.get("slices", {})).items()
            ],
        }


def _stages(task: Mapping[str, Json], language: Language) -> list[dict[str, Any]]:
    return [
        {"stage": name, "title": stage_label(name, language), "ours": name in OURS, "figures": dict(as_object(figures))}
        for name, figures in as_object(task["stages"]).items()
    ]


def _index(state: ReleaseState) -> dict[str, Any]:
    about, answerable = state.version.manifest.about, state.version.answerable()
    choice = as_object(about.get("choice", {}))
    return {
        "kind": about["factory"],
        "items": state.version.size if answerable is None else int(answerable.sum()),
        "dim": about["dim"],
        "bytes": about["bytes"],
        "recall": about["recall"],
        "recall_at": about["recall_at"],
        "queries": about["recall_queries"],
        "target": choice.get("target"),
        "why": choice.get("why", ""),
        "curve": choice.get("curve", []),
    }


def _sources(state: ReleaseState, language: Language) -> Iterator[dict[str, Any]]:
    fusions = state.retriever.fusions
    for order in (one for one in ORDERS if one in fusions):
        weights = sorted(fusions[order].weights.items(), key=lambda one: -one[1])
        listed = [{"source": name, "title": stage_label(name, language), "weight": weight} for name, weight in weights]
        yield {"order": order, "title": task_title(order, language), "weights": listed}


def _features(state: ReleaseState, language: Language) -> Iterator[dict[str, Any]]:
    for order, ranker in state.second_stage.rankers.items():
        gains = feature_gains(ranker)
        if gains is None:
            continue
        groups = features_of(state.facts, search=order == "search")
        about = {one.name: one.about for group in set(groups.values()) for one in group.of(state.facts)}
        listed = list(gains.shares.items())[:LISTED]
        yield {
            "order": order,
            "title": task_title(order, language),
            "kind": ranker.kind,
            "measure": gains.measure,
            "read": len(ranker.names),
            "features": [{"feature": name, "about": about.get(name, ""), "share": share} for name, share in listed],
        }
