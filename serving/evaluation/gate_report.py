"""The gates of a release: for each task whether reranking is on, and what was measured to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from indexing.bundle.manifest import JsonMap
from ranking.ordering.gate import GateVerdict, Verdict
from serving.answering.tasks import TASKS

if TYPE_CHECKING:
    from serving.evaluation.evaluator import Measurement
    from serving.evaluation.figures import Figures

ADOPTED: JsonMap = {task: {"verdict": "adopted", "on": True} for task in ("recommend", "search")}  # nothing to judge by


def decided(measured: Measurement, required: Verdict, *, say: Callable[[str], None]) -> dict[str, Figures]:
    """The gate of each task that there is a gate fold of: its verdict, the last step's blend, its weights down to each
    source, and whether reranking is `on`, which a verdict as good as `required` makes it. How the reranked order does
    `against` BM25 or what is popular stands beside it and decides nothing: both orders that it decides between do."""
    found: dict[str, Figures] = {}
    for task, (verdict, others) in measured.gates().items():
        order, on = TASKS[task].order or "recommend", verdict.passes(required)
        blend = measured.state.steps[-1].blend(order)
        weights = blend.source_weights(measured.state.retriever.fusion(order).weights)
        against: Figures = {name: other.as_json() for name, other in others.items()}
        found[task] = {
            **verdict.as_json(),
            "required": required,
            "on": on,
            "blend": blend.as_json(),
            "weights": weights,
            "against": against,
        }
        say(f"gate, {task}: {_in_words(verdict)}; the reranker is {'on' if on else 'off'}")
        for name, other in others.items():
            say(f"gate, {task}, against {name}: {_in_words(other)}")
    return found


def _in_words(verdict: GateVerdict) -> str:
    return (
        f"{verdict.verdict} (nDCG@10 {verdict.mean:+.4f}, 95 % {verdict.low:+.4f} to {verdict.high:+.4f}, "
        f"n {verdict.n:,})"
    )
