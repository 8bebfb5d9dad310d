"""The gates of a release in words that the owner of a shop understands, and which parts they let decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from serving.evaluation.figures import Json, as_object
from serving.reporting.tables import shown
from serving.request import CROSS_ENCODER, FEATURES
from serving.texts.catalogue import Language, text, text_or


def gate_sentences(gates: Mapping[str, Json], language: Language = "en") -> Iterator[str]:
    """One line for each task: what each part of the second stage brings, and whether it is used."""
    for task, gate in gates.items():
        found = as_object(gate)
        features = found.get("features")
        parts = [] if features is None else [_features(as_object(features), language)]
        if "verdict" in found:
            ordered = features is not None and as_object(features)["on"] is True
            parts.append(_cross_encoder(found, language, ordered=ordered))
        title, space = text_or(f"gate_line.{task}", task, language), text("gate_line.space", language)
        yield text("gate_line.whole", language, task=title, parts=space.join(parts))


def parts_on(gate: Mapping[str, Json]) -> tuple[str, ...]:
    """The parts of the second stage that a task's gate lets decide.

    >>> parts_on({"on": False, "features": {"on": True}}), parts_on({"on": True})
    (('features',), ('cross-encoder',))
    """
    features = gate.get("features")
    ordered = isinstance(features, Mapping) and features.get("on") is True
    return (*((FEATURES,) if ordered else ()), *((CROSS_ENCODER,) if gate.get("on") is True else ()))


def _features(gate: Mapping[str, Json], language: Language = "en") -> str:
    """
    >>> figures = {"mean": 0.046, "low": 0.03, "high": 0.06, "n": 228}
    >>> _features({"verdict": "proven", "on": True, **figures})[:66]
    'ordering by features is proven better than the sources alone (+.04'
    """
    verdict = str(gate["verdict"])
    use, figures = _use(gate, verdict, language), _figures(gate, language)
    return text(f"gate_line.features_{verdict}", language, figures=figures, use=use)


def _cross_encoder(gate: Mapping[str, Json], language: Language, *, ordered: bool) -> str:
    verdict = str(gate["verdict"])
    model = text("gate_line.model_after" if "features" in gate else "gate_line.model", language)
    if verdict == "adopted":
        return text("gate_line.model_adopted", language, model=model)
    before = text("gate_line.that_order" if ordered else "gate_line.sources_alone", language)
    use, figures = _use(gate, verdict, language), _figures(gate, language)
    return text(f"gate_line.model_{verdict}", language, model=model, before=before, figures=figures, use=use)


def _use(gate: Mapping[str, Json], verdict: str, language: Language = "en") -> str:
    """What follows from a verdict where it does not go without saying.

    >>> _use({"on": False}, "no"), _use({"on": True}, "proven"), _use({"on": True}, "no")
    ('; it does not run', '', '; it runs, for no proof was asked')
    """
    if gate["on"] is True:
        return text("gate_line.unproven_but_on", language) if verdict == "no" else ""
    if verdict == "no":
        return text("gate_line.unproven", language)
    weight = gate.get("blend")
    if isinstance(weight, Mapping) and weight.get("logit") == 0:
        return text("gate_line.no_weight", language)
    required = text_or(f"gate.verdict_{gate.get('required')}", text("gate_line.more", language), language)
    return text("gate_line.too_weak", language, required=required)


def _figures(gate: Mapping[str, Json], language: Language) -> str:
    mean, low, high = (shown(gate[name], sign=True) for name in ("mean", "low", "high"))
    return text("gate_line.figures", language, mean=mean, low=low, high=high, n=gate["n"])
