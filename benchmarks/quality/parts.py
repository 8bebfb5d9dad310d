"""The requests of a task in two parts: all of them, and the sample that was reranked; each with every stage it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.metrics.ranking import Places, places_in
from retrieval.topk import CSR, Hits, Mask
from serving.internals import MeasuredTask, Positions

OF = "requests"  # label of what was measured on a sample of a task's requests


class Part(NamedTuple):
    """Some requests of a task, and every stage that was run for all of them.

    at: positions of the requests in the task. target_at: positions of their targets among the task's. stages: places of
    the targets in every stage. lists: the first items of a stage, where they are known. of: labels that tell a sample's
    figures from those of all requests.
    """

    at: Positions
    target_at: Positions
    targets: CSR
    users: NDArray[np.integer] | None
    stages: Mapping[str, Places]
    lists: Mapping[str, Hits]
    of: Mapping[str, str]

    def slice(self, mask: Mask) -> Part:
        """The same requests with some of the task's targets only, bool [n_targets of the task]; some may have none
        left."""
        own = mask[self.target_at]
        stages = {name: Places(places.above[own], places.tied[own]) for name, places in self.stages.items()}
        return self._replace(targets=self.targets.where(own), target_at=self.target_at[own], stages=stages)


def parts_of(task: MeasuredTask) -> Iterator[Part]:
    """All requests; then, where the cross-encoder read a sample alone, that sample with every stage."""
    for number, (at, part) in enumerate(task.parts()):
        placed = {
            name: places_in(ranked, part.targets) if isinstance(ranked, Hits) else ranked
            for name, ranked in part.stages.items()
        }
        lists = {name: ranked for name, ranked in part.stages.items() if isinstance(ranked, Hits)}
        of = {OF: f"sample of {len(at):,}"} if number else {}
        yield Part(at, task.target_positions(at), part.targets, part.users, placed, {**lists, **part.heads}, of)
