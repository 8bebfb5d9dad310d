"""The gates of a release as cards of the report: one for each part of the second stage of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ranking.ordering.blend import Blend
from serving.evaluation.figures import Json, as_object
from serving.reporting.tables import shown, stage_label, task_title
from serving.texts.catalogue import Language, text


class GateCard(NamedTuple):
    """A verdict on one part of the second stage of a task, in words and figures."""

    task: str
    part: str
    verdict: str
    headline: str
    meaning: str
    facts: dict[str, str]


def gates(evaluation: Mapping[str, Json], language: Language = "en") -> list[GateCard]:
    """One card for each verdict of the gate fold: that on the order by features, then that on the text model."""
    found = []
    for name, gate in as_object(evaluation["gate"]).items():
        verdict = as_object(gate)
        found += [_gate(name, "features", as_object(verdict["features"]), language)] if "features" in verdict else []
        found += [_gate(name, "reranked", verdict, language)] if "verdict" in verdict else []
    return found


def _gate(name: str, part: str, verdict: Mapping[str, Json], language: Language) -> GateCard:
    found = str(verdict["verdict"])
    facts = {} if "mean" not in verdict else _gate_facts(verdict, language)
    keys = (f"{part}_question", f"{found}_means", "on" if verdict["on"] is True else "off")
    sentences = [text(f"gate.{key}", language) for key in keys]
    return GateCard(
        task=task_title(name, language),
        part=text(f"gate.{part}", language),
        verdict=found,
        headline=text(f"gate.{found}", language),
        meaning=text("gate_line.space", language).join(sentences),
        facts=facts,
    )


def _gate_facts(verdict: Mapping[str, Json], language: Language) -> dict[str, str]:
    share = verdict["share_positive"]
    facts: dict[str, str] = {
        "change": _signed(verdict["mean"]),
        "interval": text("gate.low_to_high", language, low=_signed(verdict["low"]), high=_signed(verdict["high"])),
        "requests": f"{verdict['n']:,}",
        "resamples": f"{100 * share:.1f} %" if isinstance(share, float) else "–",
        "detectable": shown(verdict["mde"]),
        **({"kind": str(verdict["kind"])} if isinstance(verdict.get("kind"), str) else {}),
        **({"order": str(Blend.of(as_object(verdict["blend"])))} if "blend" in verdict else {}),
    }
    weights = {"weights": _weights(as_object(verdict["weights"]), language)} if "weights" in verdict else {}
    return {
        **_named(facts, language),
        **{
            text("gate.against", language, stage=stage_label(name, language)): _against(as_object(one), language)
            for name, one in as_object(verdict.get("against", {})).items()
        },
        **_named(weights, language),
    }


def _named(facts: Mapping[str, str], language: Language) -> dict[str, str]:
    return {text(f"gate.{name}", language): value for name, value in facts.items()}


def _against(verdict: Mapping[str, Json], language: Language) -> str:
    mean, low, high = (_signed(verdict[name]) for name in ("mean", "low", "high"))
    named = text(f"gate.verdict_{verdict['verdict']}", language)
    return text("gate.against_figures", language, mean=mean, low=low, high=high, verdict=named)


def _weights(terms: Mapping[str, Json], language: Language) -> str:
    weights = [
        f"{stage_label(name, language)} {weight:.3g}"
        for name, weight in terms.items()
        if isinstance(weight, int | float)
    ]
    return text("note.also", language).join(weights)


def _signed(value: Json) -> str:
    return shown(value, sign=True)
