"""A shortlist of six places, and steps of reranking whose logits are known."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ranking.models.cross_encoder import ShortlistScorer
from ranking.ordering.blend import Blend
from retrieval.topk import Hits
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import Step

HITS = Hits(np.array([[10, 11, 12, 13, 14, 15]]), np.array([[6, 5, 4, 3, 2, 1]], np.float32))
QUICK: Mapping[int, float] = {10: 0.0, 11: 5.0, 12: 1.0, 13: 9.0, 14: 7.0, 15: 3.0}
SLOW: Mapping[int, float] = {10: 9.0, 11: 3.0, 12: 9.0, 13: 1.0, 14: 2.0, 15: 9.0}


def state_of(*steps: Step) -> ReleaseState:
    """A state that has steps and nothing else."""
    nothing = cast("Any", None)
    return ReleaseState(
        release=nothing,
        settings=nothing,
        user_tower=nothing,
        query_vectors=nothing,
        retriever=nothing,
        user_store=nothing,
        user_contexts=nothing,
        reranks=frozenset(),
        steps=steps,
    )


def step_of(model: str, depth: int, **blends: Blend) -> Step:
    """A step without a model; `raw` shows its logits as they are."""
    scorer = SimpleNamespace(activation="identity" if model == "raw" else "sigmoid")
    return Step(cast("ShortlistScorer", scorer), depth, blends, model=model)


def logits_of(step: Step, hits: Hits) -> NDArray[np.float32]:
    """QUICK for the shallow model, SLOW for any other."""
    known = QUICK if step.model == "shallow" else SLOW
    return np.array([[known.get(row, np.nan) for row in line] for line in hits.rows[:, : step.depth]], np.float32)
