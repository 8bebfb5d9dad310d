"""What `diversity` of a request gives up in relevance, what it wins in unlike items, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.beyond_accuracy import Groups, groups_of, mean
from benchmarks.quality.tasks import ANSWERED
from benchmarks.result_lines import Line
from retrieval.metrics import beyond_accuracy as beyond
from retrieval.metrics.ranking import ndcg_at, without_ties
from retrieval.topk import Hits, Vectors
from serving.internals import (
    Batch,
    DiversityMethod,
    LabelledRequests,
    LabelledShortlists,
    Measurement,
    arrange,
    diversify,
    run,
)

STRENGTHS = (0.1, 0.3, 0.5)
BLOCK = 256  # requests at once
TIMED = 200  # requests that are timed, one by one


class Setting(NamedTuple):
    """How unlike the items of an answer are asked to be."""

    by: DiversityMethod
    strength: float


NONE = Setting("mmr", 0.0)
SETTINGS = (NONE, *(Setting(by, strength) for by in get_args(DiversityMethod) for strength in STRENGTHS))


@dataclass(frozen=True)
class DiversityCost:
    """A release over one shop: its answers to the test requests, before any cross-encoder, with more and less
    diversity."""

    measured: Measurement
    timed: int = TIMED

    def lines(self) -> Iterator[Line]:
        """For every task and setting nDCG@10 and its share of that without, the mean of 1 - cosine within the first
        ten, their distinct categories, and the median milliseconds that the stage takes for one request."""
        for name, found in self._tasks():
            plain = self._ndcg(found, self._answers(found.batch, NONE))
            for setting in SETTINGS if len(found) else ():
                answers = self._answers(found.batch, setting)
                ndcg = self._ndcg(found, answers)
                summary = {
                    f"ndcg@{ANSWERED}": ndcg,
                    "of that without": ndcg / plain if ndcg is not None and plain else None,
                    "unlikeness": mean(beyond.diversity_at(answers, self._vectors, ANSWERED)),
                    **self._distinct_categories(answers),
                    "ms": self._milliseconds(found.batch, setting),
                }
                about = {"by": setting.by if setting.strength else "none", "diversity": f"{setting.strength:g}"}
                yield Line(measured="diversity", labels={"task": name, **about}, unit="figure", summary=summary)

    def _tasks(self) -> Iterator[tuple[str, LabelledShortlists]]:
        state, shop = self.measured.state, self.measured.shop
        requests = LabelledRequests(state, shop)
        if shop.events is not None:
            yield "seen_removed" if state.filter_seen else "seen_kept", requests.recommendations("test")
        if shop.judgements is not None:
            yield "search", requests.searches("test")

    def _answers(self, batch: Batch, setting: Setting) -> Hits:
        """What stands first of every request, in its order."""
        blocks = [np.arange(start, min(start + BLOCK, len(batch))) for start in range(0, len(batch), BLOCK)]
        return Hits.join([self._answered(self._arranged(batch, block), setting) for block in blocks])

    def _answered(self, batch: Batch, setting: Setting) -> Hits:
        asked = replace(batch, diversity=setting.strength, diversify_by=setting.by)
        order = run(self.measured.state, asked, since=diversify, until=diversify).order
        assert order is not None, "diversify comes after arrange"
        return without_ties(Hits(order.rows[:, :ANSWERED], order.scores[:, :ANSWERED]))

    def _arranged(self, batch: Batch, block: NDArray[np.int64]) -> Batch:
        """Some requests as `diversify` reads them, by position."""
        part = replace(batch.select(block), k=ANSWERED)
        return run(self.measured.state, part, since=arrange, until=arrange)

    def _ndcg(self, found: LabelledShortlists, answers: Hits) -> float | None:
        return mean(ndcg_at(answers, found.targets, ANSWERED))

    def _distinct_categories(self, answers: Hits) -> dict[str, float]:
        if self._categories is None:
            return {}
        codes = np.where(answers.rows >= 0, self._categories.codes[np.maximum(answers.rows, 0)], -1)
        counts = [len(np.unique(line[line >= 0])) for line in codes]
        return {"distinct categories": float(np.mean(counts))}

    def _milliseconds(self, batch: Batch, setting: Setting) -> float | None:
        """The median time of the stage for one request; None without diversity, which is not computed then."""
        if not setting.strength:
            return None
        times = []
        for at in range(min(self.timed, len(batch))):
            one = self._arranged(batch, np.array([at]))
            begun = time.perf_counter()
            self._answered(one, setting)
            times.append(1_000 * (time.perf_counter() - begun))
        return float(np.median(times))

    @cached_property
    def _vectors(self) -> Vectors:
        version = self.measured.state.version
        return version.vectors_at(np.arange(version.size))

    @cached_property
    def _categories(self) -> Groups | None:
        return groups_of(self.measured.shop.data.items, "category")
