"""Figures beyond accuracy: diversity, novelty, calibration to the user, and exposure of brands and sellers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.quality.parts import Part, parts_of
from benchmarks.quality.tasks import ANSWERED, events_and_split, training_counts
from benchmarks.result_lines import Line
from retrieval.metrics import beyond_accuracy as beyond
from retrieval.metrics import ranking as metrics
from retrieval.metrics.baselines import histories
from retrieval.metrics.ranking import Counts, Values
from retrieval.topk import CSR, Hits
from serving.internals import MeasuredTask, ReleaseState, Shop

GROUPED = ("brand", "seller")  # columns whose groups' exposure is measured
TOP = 5  # groups that are listed, those with the most sales


class Groups(NamedTuple):
    """The group of each item, int64 [n_items], -1 where it has none, and the names of the groups."""

    codes: NDArray[np.int64]
    names: list[str]


@dataclass(frozen=True)
class ListFigures:
    """Figures of the first items of every ranked list of a data set's test requests."""

    shop: Shop

    def lines(self, name: str, task: MeasuredTask) -> Iterator[Line]:
        """Every stage whose lists are known, with all figures that its task has."""
        for part in parts_of(task):
            for stage, hits in part.lists.items():
                labels = {"task": name, "stage": stage, **part.of}
                for figure, value in self._figures(hits, part, recommends=name != "search"):
                    yield figure_line({**labels, "figure": f"{figure}@{ANSWERED}"}, value)
                for column, groups in self._groups.items():
                    yield from self._exposure(labels, column, groups, hits, task)

    def _figures(self, hits: Hits, part: Part, *, recommends: bool) -> Iterator[tuple[str, float | None]]:
        k = ANSWERED
        yield "coverage", metrics.coverage_at(hits, self.shop.data.n_items, k)
        if self._sold is not None:
            yield "novelty", metrics.novelty_at(hits, self._sold, k)
            yield "popularity_bias", metrics.popularity_bias_at(hits, self._sold, k)
        if recommends and self._categories is not None:
            yield (
                "calibration",
                mean(beyond.calibration_at(hits, self._history.select(part.at), self._categories.codes, k)),
            )

    def _exposure(
        self, labels: Mapping[str, str], column: str, groups: Groups, hits: Hits, task: MeasuredTask
    ) -> Iterator[Line]:
        """The gap between the share of answers and the share of sales of every group, and both for the largest groups.

        Sales are those in training; without events, the relevant items of the judgements.
        """
        wanted = np.bincount(task.targets.rows, minlength=len(groups.codes)) if self._sold is None else self._sold
        own = groups.codes >= 0
        sums = np.bincount(groups.codes[own], wanted[own], len(groups.names))
        if not sums.any():
            return
        shown, share = beyond.exposure_at(hits, groups.codes, ANSWERED), sums / sums.sum()
        yield figure_line({**labels, "figure": f"{column}_gap@{ANSWERED}"}, beyond.exposure_gap(shown, share))
        for group in np.argsort(-share, kind="stable")[:TOP].tolist():
            about = {**labels, "by": column, "group": groups.names[group]}
            summary = {"shown": float(shown[group]), "wanted": float(share[group])}
            yield Line(measured="exposure", labels=about, unit="share", summary=summary)

    @cached_property
    def _sold(self) -> Counts | None:
        return None if self.shop.events is None else training_counts(self.shop)

    @cached_property
    def _groups(self) -> dict[str, Groups]:
        found = {column: groups_of(self.shop.data.items, column) for column in GROUPED}
        return {column: groups for column, groups in found.items() if groups is not None}

    @cached_property
    def _categories(self) -> Groups | None:
        return groups_of(self.shop.data.items, "category")

    @cached_property
    def _history(self) -> CSR:
        events, split = events_and_split(self.shop)
        return histories(events, split.folds["test"])


def diversity_lines(tasks: Mapping[str, MeasuredTask], state: ReleaseState) -> Iterator[Line]:
    """The diversity of the answered items by their vectors of the item tower."""
    vectors = state.version.vectors_at(np.arange(state.version.size))
    for name, task in tasks.items():
        for part in parts_of(task):
            for stage, hits in part.lists.items():
                value = mean(beyond.diversity_at(hits, vectors, ANSWERED))
                labels = {"task": name, "stage": stage, **part.of, "figure": f"diversity@{ANSWERED}"}
                yield figure_line(labels, value)


def groups_of(items: pa.Table, column: str) -> Groups | None:
    """The group of each item: its first value in a column of names; None where no item has one."""
    if column not in items.column_names:
        return None
    values = items[column].combine_chunks()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        lengths = pc.fill_null(pc.list_value_length(values), 0)
        values = pc.list_element(pc.if_else(pc.greater(lengths, 0), values, pa.scalar([None], values.type)), 0)
    coded = pc.dictionary_encode(values)
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Groups(codes, [str(name) for name in coded.dictionary.to_pylist()]) if (codes >= 0).any() else None


def figure_line(labels: Mapping[str, str], value: float | None, **bounds: float | None) -> Line:
    """A line with one figure and its bounds."""
    known = None if value is None or np.isnan(value) else value
    return Line(measured="beyond accuracy", labels=labels, unit="figure", summary={"value": known, **bounds})


def mean(values: Values) -> float | None:
    """The mean of all values but nan; None where all are nan."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
