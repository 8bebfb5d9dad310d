"""The gates of a release in words that the owner of a shop understands, and which parts they let decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from serving.evaluation.figures import Json, as_object
from serving.reporting.tables import shown
from serving.request import CROSS_ENCODER, FEATURES

TASKS = {
    "recommend": "Recommendations",
    "search": "Search",
    "personalised_search": "Personalised search",
    "complete_cart": "Carts",
    "recommend_unseen": "Recommendations of something new",
}
ADDS = {
    "proven": "is proven to put better items first",
    "likely": "is likely to put better items first",
    "no": "adds nothing that can be shown",
}


def gate_sentences(gates: Mapping[str, Json]) -> Iterator[str]:
    """One line for each task: what each part of the second stage brings, and whether it is used."""
    for task, gate in gates.items():
        found = as_object(gate)
        features = found.get("features")
        parts = [] if features is None else [_features(as_object(features))]
        if "verdict" in found:
            parts.append(_cross_encoder(found, ordered=features is not None and as_object(features)["on"] is True))
        yield f"{TASKS.get(task, task)}: {' '.join(parts)}"


def parts_on(gate: Mapping[str, Json]) -> tuple[str, ...]:
    """The parts of the second stage that a task's gate lets decide.

    >>> parts_on({"on": False, "features": {"on": True}}), parts_on({"on": True})
    (('features',), ('cross-encoder',))
    """
    features = gate.get("features")
    ordered = isinstance(features, Mapping) and features.get("on") is True
    return (*((FEATURES,) if ordered else ()), *((CROSS_ENCODER,) if gate.get("on") is True else ()))


def _features(gate: Mapping[str, Json]) -> str:
    """
    >>> figures = {"mean": 0.046, "low": 0.03, "high": 0.06, "n": 228}
    >>> _features({"verdict": "proven", "on": True, **figures})[:66]
    'ordering by features is proven better than the sources alone (+.04'
    """
    verdict = str(gate["verdict"])
    better = "not shown to be better" if verdict == "no" else f"{verdict} better"
    return f"ordering by features is {better} than the sources alone ({_figures(gate)}){_use(gate, verdict)}."


def _cross_encoder(gate: Mapping[str, Json], *, ordered: bool) -> str:
    verdict = str(gate["verdict"])
    name = "The text model" if "features" in gate else "the text model"
    if verdict == "adopted":
        return f"{name} was adopted as it is, without a gate."
    beside = "" if verdict == "no" else f" than {'that order' if ordered else 'the sources alone'}"
    return f"{name} {ADDS[verdict]}{beside} ({_figures(gate)}){_use(gate, verdict)}."


def _use(gate: Mapping[str, Json], verdict: str) -> str:
    """What follows from a verdict where it does not go without saying.

    >>> _use({"on": False}, "no"), _use({"on": True}, "proven"), _use({"on": True}, "no")
    ('; it does not run', '', '; it runs, for no proof was asked')
    """
    if gate["on"] is True:
        return "; it runs, for no proof was asked" if verdict == "no" else ""
    if verdict == "no":
        return "; it does not run"
    weight = gate.get("blend")
    if isinstance(weight, Mapping) and weight.get("logit") == 0:
        return "; its fitted weight is nothing, so it does not run"
    return f"; {gate.get('required', 'more')} was asked, so it does not run"


def _figures(gate: Mapping[str, Json]) -> str:
    mean, low, high = (shown(gate[name], sign=True) for name in ("mean", "low", "high"))
    return f"{mean} nDCG@10, 95 % {low} to {high}, {gate['n']:,} requests"
