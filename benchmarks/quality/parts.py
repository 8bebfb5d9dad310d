"""The requests of a task in two parts: all of them, and the sample that was reranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.metrics.ranking import Places, Ranked, places_in, without_ties
from retrieval.topk import CSR, Hits, Mask
from serving.internals import MeasuredTask, Positions


class Part(NamedTuple):
    """Some requests of a task, and the stages that were run for them.

    at: positions of the requests in the task. target_at: positions of their targets among the task's. stages: places of
    the targets in every stage. lists: the first items of a stage, where they are known.
    """

    at: Positions
    target_at: Positions
    targets: CSR
    users: NDArray[np.integer] | None
    stages: Mapping[str, Places]
    lists: Mapping[str, Hits]

    def slice(self, mask: Mask) -> Part:
        """The same requests with some of the task's targets only, bool [n_targets of the task]; some may have none
        left."""
        own = mask[self.target_at]
        stages = {name: Places(places.above[own], places.tied[own]) for name, places in self.stages.items()}
        return self._replace(targets=self.targets.where(own), target_at=self.target_at[own], stages=stages)


def parts_of(task: MeasuredTask) -> Iterator[Part]:
    """All requests, then the reranked sample, if there is one."""
    everyone = np.arange(task.targets.n_lists)
    lists = {name: ranked for name, ranked in task.stages.items() if isinstance(ranked, Hits)}
    yield _part(task, everyone, task.stages, {**lists, **task.heads})
    if task.sampled:
        shown = {name: without_ties(hits) for name, hits in task.sampled.items()}
        yield _part(task, everyone if task.sample is None else task.sample, shown, shown)


def _part(task: MeasuredTask, at: Positions, stages: Mapping[str, Ranked], lists: Mapping[str, Hits]) -> Part:
    targets = task.targets.select(at)
    target_at = CSR(task.targets.indptr, np.arange(len(task.targets.rows))).select(at).rows
    placed = {
        name: places_in(ranked, targets) if isinstance(ranked, Hits) else ranked for name, ranked in stages.items()
    }
    return Part(at, target_at, targets, None if task.users is None else task.users[at], placed, lists)
