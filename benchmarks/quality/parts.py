"""The requests of a task, in parts: all of them, and those that reranking was run for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.metrics.ranking import Places, Ranked, places_in, settled
from retrieval.topk import CSR, Hits, Mask
from serving.evaluation.figures import Positions, Task


class Part(NamedTuple):
    """Some requests of a task, with the stages that were run for them.

    `at` are their positions in the task, `target_at` those of their targets among the task's; `lists` are the first
    items of each stage, where it has them.
    """

    at: Positions
    target_at: Positions
    targets: CSR
    users: NDArray[np.integer] | None
    stages: Mapping[str, Places]
    lists: Mapping[str, Hits]

    def slice(self, kept: Mask) -> Part:
        """Cut to some of the task's targets, bool [n_targets of the task]; the requests stay, some with no target."""
        own = kept[self.target_at]
        stages = {name: Places(places.above[own], places.tied[own]) for name, places in self.stages.items()}
        return self._replace(targets=self.targets.where(own), target_at=self.target_at[own], stages=stages)


def parts_of(task: Task) -> Iterator[Part]:
    """All requests, then the sample that was reranked, if any was."""
    everyone = np.arange(task.targets.n_lists)
    lists = {name: ranked for name, ranked in task.stages.items() if isinstance(ranked, Hits)}
    yield _part(task, everyone, task.stages, {**lists, **task.heads})
    if task.sampled:
        shown = {name: settled(hits) for name, hits in task.sampled.items()}
        yield _part(task, everyone if task.sample is None else task.sample, shown, shown)


def _part(task: Task, at: Positions, stages: Mapping[str, Ranked], lists: Mapping[str, Hits]) -> Part:
    targets = task.targets.select(at)
    target_at = CSR(task.targets.indptr, np.arange(len(task.targets.rows))).select(at).rows
    placed = {
        name: places_in(ranked, targets) if isinstance(ranked, Hits) else ranked for name, ranked in stages.items()
    }
    return Part(at, target_at, targets, None if task.users is None else task.users[at], placed, lists)
