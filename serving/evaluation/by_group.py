"""Figures by product: where items have groups, an answer counts that holds any variant of what was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from indexing.version.item_groups import ItemGroups
from retrieval.topk import CSR, Hits
from serving.evaluation.figures import MeasuredTask

BY_GROUP = "by_group"


def by_group(tasks: Mapping[str, MeasuredTask], items: pa.Table) -> dict[str, MeasuredTask]:
    """Tasks over items with the variant BY_GROUP, where those have groups."""
    groups = ItemGroups.of(items)
    return {name: with_groups(task, groups) for name, task in tasks.items()}


def with_groups(task: MeasuredTask, groups: ItemGroups | None) -> MeasuredTask:
    """The task with the variant BY_GROUP, which counts groups of items; itself without groups.

    Every stage shows the best item of each group alone, and a target is found where any item of its group is. Stages of
    which only the places of targets are known are left out.
    """
    if groups is None:
        return task
    variant = MeasuredTask(
        targets=_grouped(task.targets, groups),
        stages={name: groups.collapsed(hits) for name, hits in task.stages.items() if isinstance(hits, Hits)},
        sampled={name: groups.collapsed(hits) for name, hits in task.sampled.items()},
        sample=task.sample,
        users=task.users,
    )
    return replace(task, variants={**task.variants, BY_GROUP: variant})


def _grouped(targets: CSR, groups: ItemGroups) -> CSR:
    """The groups of targets, each once a request, as the first rows of them."""
    rows, span = groups.representatives[targets.rows], len(groups.codes) + 1
    owners, rows = np.divmod(np.unique(targets.owners * span + rows), span)
    return CSR.grouped(owners, rows, targets.n_lists)
