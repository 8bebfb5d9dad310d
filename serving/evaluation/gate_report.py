"""The gates of a release: for each task whether reranking is on, and what was measured to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from indexing.bundle.manifest import JsonMap
from ranking.ordering.gate import GateVerdict, Verdict

if TYPE_CHECKING:
    from serving.answering.retriever import TaskName
    from serving.evaluation.evaluator import Gated, Measurement
    from serving.evaluation.figures import Figures

ADOPTED: JsonMap = {task: {"verdict": "adopted", "on": True} for task in ("recommend", "search")}  # nothing to judge by


def judged(measured: Measurement, required: Verdict, *, say: Callable[[str], None]) -> dict[str, Figures]:
    """The gate of each task that there is a gate fold of: its verdict, the last step's blend, its weights down to each
    source, and whether reranking is `on`, which a verdict as good as `required` makes it. How the reranked order does
    `against` BM25 or what is popular stands beside it and decides nothing: both orders that it decides between do."""
    found: dict[str, Figures] = {}
    gated: dict[TaskName, Gated | None]
    gated = {"recommend": measured.gate_recommend(), "search": measured.gate_search()}
    for task, one in gated.items():
        if one is not None:
            verdict, others = one
            on, blend = verdict.passes(required), measured.stages.steps[-1].blend(task)
            weights = blend.source_weights(measured.stages.retriever.fusion(task).weights)
            order: Figures = {"blend": blend.as_json(), "weights": weights}
            against: Figures = {name: other.as_json() for name, other in others.items()}
            found[task] = {**verdict.as_json(), "required": required, "on": on, **order, "against": against}
            say(f"gate, {task}: {_told(verdict)}; the reranker is {'on' if on else 'off'}")
            for name, other in others.items():
                say(f"gate, {task}, against {name}: {_told(other)}")
    return found


def _told(verdict: GateVerdict) -> str:
    return (
        f"{verdict.verdict} (nDCG@10 {verdict.mean:+.4f}, 95 % {verdict.low:+.4f} to {verdict.high:+.4f}, "
        f"n {verdict.n:,})"
    )
