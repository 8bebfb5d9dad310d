"""Engines that answer from a release but for some parts, and what they answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retrieval.data.dataset import DataSet
from retrieval.sources.fusion import Fusion
from serving.answering.release_state import ReleaseState
from serving.engine import Engine
from serving.request import Answer

FUSIONS = {
    "recommend": Fusion({"towers": 1.0, "co_occurrence": 0.7, "own_frequency": 0.5, "popularity_30d": 0.2}),
    "recommend_unseen": Fusion({"towers": 1.0, "co_occurrence": 1.1, "popularity_30d": 0.4}),
    "search": Fusion({"towers": 1.0, "words": 0.1}),
}


def changed(engine: Engine, **parts: object) -> Engine:
    """An engine that answers from the same release but for these parts."""
    return Engine(replace(engine.state, **parts))  # type: ignore[arg-type]


def with_fusion(state: ReleaseState, **fusions: Fusion) -> ReleaseState:
    return replace(state, retriever=replace(state.retriever, fusions=FUSIONS | fusions))


def by_towers_alone(state: ReleaseState) -> ReleaseState:
    return replace(state, retriever=replace(state.retriever, fusions={}))


def with_markers(state: ReleaseState, *, marked: bool) -> ReleaseState:
    """The state with the parts of what the ranker reads marked, or not."""
    changed_settings = state.settings.model_copy(update={"field_markers": "some rendering" if marked else None})
    return replace(state, settings=changed_settings)


def with_groups(state: ReleaseState, group_of: Callable[[int], str | None]) -> ReleaseState:
    """The state over items with the group of their rows."""
    column = pa.array([group_of(row) for row in range(state.version.size)], pa.string())
    version = replace(state.version, items=state.version.items.append_column("group_id", column))
    contexts, retriever = replace(state.user_contexts, version=version), replace(state.retriever, version=version)
    return replace(state, user_contexts=contexts, retriever=retriever)


def filtering_seen(state: ReleaseState, filter_seen: bool) -> ReleaseState:
    """The state of a shop that leaves out what was taken before, or does not."""
    return replace(state, settings=state.settings.model_copy(update={"filter_seen": filter_seen}))


def ids(answer: Answer) -> list[str]:
    return [hit.item_id for hit in answer.items]


def taken(data: DataSet, user: int, kinds: tuple[str, ...]) -> set[str]:
    assert data.events is not None
    events = data.events
    mine = slice(events.offsets[user], events.offsets[user + 1])
    rows = events.item[mine][np.isin(events.kind[mine], [events.kinds.index(kind) for kind in kinds])]
    return {data.item_ids[row] for row in rows}
