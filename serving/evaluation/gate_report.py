"""The gates of a release: for each task which parts of the second stage are on, and what was measured to say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from indexing.bundle.manifest import JsonMap
from ranking.ordering.blend import Blend
from ranking.ordering.gate import GateVerdict, Verdict
from serving.answering.release_settings import OrderName
from serving.answering.tasks import GateName, orders_of_gates

if TYPE_CHECKING:
    from serving.evaluation.evaluator import Measurement
    from serving.evaluation.figures import Figures

ADOPTED: JsonMap = {task: {"verdict": "adopted", "on": True} for task in ("recommend", "search")}  # nothing to judge by


def features_decided(measured: Measurement, required: Verdict, *, say: Callable[[str], None]) -> dict[str, Figures]:
    """Step 1 of the gate of each task that there is a gate fold of: the fused order against the order by features,
    which is `on` where the verdict is as good as `required`; as `{task: {"features": ...}}`."""
    found: dict[str, Figures] = {}
    for task, verdict in measured.feature_gates().items():
        on = verdict.passes(required)
        ranker = measured.state.second_stage.ranker(_order(measured, task))
        kind = None if ranker is None else ranker.kind
        found[task] = {"features": {**verdict.as_json(), "required": required, "on": on, "kind": kind}}
        say(f"gate, {task}, features against fused: {in_words(verdict)}; the {kind} ranker is {'on' if on else 'off'}")
    return found


def decided(
    measured: Measurement,
    required: Verdict,
    features: Mapping[str, Figures],
    *,
    min_users: int = 0,
    say: Callable[[str], None],
) -> dict[str, Figures]:
    """Step 2, beside the `features` of step 1: the order with the cross-encoder's logit against that without it, each
    side fitted anew; the last step's blend, its weights down to each source, and whether the cross-encoder is `on`,
    which takes a verdict as good as `required` and a weight above 0; of fewer than `min_users` users "likely" is not
    good enough, for so few say little. How the order does `against` BM25 or what is popular stands beside it and
    decides nothing."""
    found = {task: dict(figures) for task, figures in features.items()}
    for task, (verdict, others) in measured.gates().items():
        order = _order(measured, task)
        blend = measured.state.steps[-1].blend(order)
        few = required == "likely" and verdict.users < min_users
        passed = verdict.passes("proven" if few else required)
        on = passed and any(step.blend(order).logit > 0 for step in measured.state.steps)
        weights = blend.source_weights(_given_weights(measured, task, blend))
        against: Figures = {name: other.as_json() for name, other in others.items()}
        found[task] = {
            **found.get(task, {}),
            **verdict.as_json(),
            "required": required,
            "on": on,
            "blend": blend.as_json(),
            "weights": weights,
            "against": against,
        }
        say(f"gate, {task}, with the cross-encoder against without: {in_words(verdict)}; it is {'on' if on else 'off'}")
        for name, other in others.items():
            say(f"gate, {task}, against {name}: {in_words(other)}")
    return found


def _order(measured: Measurement, task: GateName) -> OrderName:
    """The order by which a task is answered."""
    (order,) = orders_of_gates({task}, measured.state.retriever.fusions)
    return order


def _given_weights(measured: Measurement, task: GateName, blend: Blend) -> Mapping[str, float]:
    """What the score that a blend is given is made of: the ranker over features, else each source by its weight."""
    order = _order(measured, task)
    if measured.state.feature_ranker(order, task) is None:
        return measured.state.retriever.fusion(order).weights
    return {"features": 1.0, **dict.fromkeys(blend.sources, 0.0)}


def in_words(verdict: GateVerdict) -> str:
    """A verdict with its figures, in a line."""
    return (
        f"{verdict.verdict} (nDCG@10 {verdict.mean:+.4f}, 95 % {verdict.low:+.4f} to {verdict.high:+.4f}, "
        f"n {verdict.n:,})"
    )
