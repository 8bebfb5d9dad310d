"""The gates of a release: for each task whether reranking is on, and what was measured to say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from indexing.manifest import JsonMap
from ranking.gate import GateVerdict, Verdict

if TYPE_CHECKING:
    from serving.evaluate import Figures
    from serving.measure import Measurement
    from serving.retriever import TaskName

ADOPTED: JsonMap = {task: {"verdict": "adopted", "on": True} for task in ("recommend", "search")}  # nothing to judge by


def judged(measured: Measurement, required: Verdict, *, say: Callable[[str], None]) -> dict[str, Figures]:
    """The gate of each task that there is a gate fold of: its verdict, the last step's blend, its weights down to each
    source, and whether reranking is `on`, which a verdict as good as `required` makes it."""
    found: dict[str, Figures] = {}
    verdicts: dict[TaskName, GateVerdict | None]
    verdicts = {"recommend": measured.gate_recommend(), "search": measured.gate_search()}
    for task, verdict in verdicts.items():
        if verdict is not None:
            on, blend = verdict.passes(required), measured.stages.steps[-1].blend(task)
            weights = blend.over(measured.stages.retriever.fusion(task).weights)
            order: Figures = {"blend": blend.as_json(), "weights": weights}
            found[task] = {**verdict.as_json(), "required": required, "on": on, **order}
            say(
                f"gate, {task}: {verdict.verdict} (nDCG@10 {verdict.mean:+.4f}, 95 % {verdict.low:+.4f} to "
                f"{verdict.high:+.4f}, n {verdict.n:,}); the reranker is {'on' if on else 'off'}"
            )
    return found


def passed(gates: Mapping[str, object]) -> frozenset[str]:
    """The tasks whose gate, as a release records it, lets the reranker on.

    >>> sorted(passed(ADOPTED)), passed({"search": {"verdict": "no", "on": False}})
    (['recommend', 'search'], frozenset())
    """
    return frozenset(task for task, gate in gates.items() if isinstance(gate, Mapping) and gate.get("on") is True)
