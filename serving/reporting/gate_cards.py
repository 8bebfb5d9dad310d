"""The gates of a release as cards of the report: one for each part of the second stage of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ranking.ordering.blend import Blend
from serving.evaluation.figures import Json, as_object
from serving.reporting.tables import TITLES, shown, stage_label

VERDICTS = {
    "proven": ("Proven", "The 95 % interval of the change lies above zero."),
    "likely": ("Likely", "The mean change is above zero, and so are at least 80 % of its resamples."),
    "no": ("Not shown", "These requests do not show an improvement."),
    "adopted": ("Adopted", "The model was adopted as it was, without a gate."),
}
PARTS = {  # of the second stage: what it is called, and what its gate compares
    "features": ("Ordering by features", "Against the candidate sources alone."),
    "reranked": ("Text model", "With its score against without, the weights of each side fitted anew."),
}


class GateCard(NamedTuple):
    """A verdict on one part of the second stage of a task, in words and figures."""

    task: str
    part: str
    question: str
    verdict: str
    headline: str
    meaning: str
    facts: dict[str, str]


def gates(evaluation: Mapping[str, Json]) -> list[GateCard]:
    """One card for each verdict of the gate fold: that on the order by features, then that on the text model."""
    found = []
    for name, gate in as_object(evaluation["gate"]).items():
        verdict = as_object(gate)
        found += [_gate(name, "features", as_object(verdict["features"]))] if "features" in verdict else []
        found += [_gate(name, "reranked", verdict)] if "verdict" in verdict else []
    return found


def _gate(name: str, part: str, verdict: Mapping[str, Json]) -> GateCard:
    headline, meaning = VERDICTS[str(verdict["verdict"])]
    facts = {} if "mean" not in verdict else _gate_facts(verdict)
    on = "It is on." if verdict["on"] is True else "It is off."
    task = TITLES.get(name, name.replace("_", " ").capitalize())
    return GateCard(task, *PARTS[part], str(verdict["verdict"]), headline, f"{meaning} {on}", facts)


def _gate_facts(verdict: Mapping[str, Json]) -> dict[str, str]:
    return {
        "change of nDCG@10": _signed(verdict["mean"]),
        "95 % interval": f"{_signed(verdict['low'])} to {_signed(verdict['high'])}",
        "requests": f"{verdict['n']:,}",
        "resamples above zero": f"{100 * share:.1f} %"
        if isinstance(share := verdict["share_positive"], float)
        else "–",
        "smallest detectable change": shown(verdict["mde"]),
        **({"kind of ranker": verdict["kind"]} if isinstance(verdict.get("kind"), str) else {}),
        **({"order": str(Blend.of(as_object(verdict["blend"])))} if "blend" in verdict else {}),
        **{
            f"against {stage_label(name)}": _against(as_object(one))
            for name, one in as_object(verdict.get("against", {})).items()
        },
        **({"weight of each score": _weights(as_object(verdict["weights"]))} if "weights" in verdict else {}),
    }


def _against(verdict: Mapping[str, Json]) -> str:
    return f"{_signed(verdict['mean'])} ({verdict['verdict']}, {_signed(verdict['low'])} to {_signed(verdict['high'])})"


def _weights(terms: Mapping[str, Json]) -> str:
    return "; ".join(
        f"{stage_label(name)} {weight:.3g}" for name, weight in terms.items() if isinstance(weight, int | float)
    )


def _signed(value: Json) -> str:
    return shown(value, sign=True)
