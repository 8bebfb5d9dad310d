"""Requests whose outcome is known, run through the engine's own stages in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.models.placement import Placement
from retrieval.data.dataset import Events
from retrieval.data.requests import Requests
from retrieval.data.time_units import DAY
from retrieval.data.timeline import HistoryBatch, Timeline
from retrieval.metrics.baselines import targets_of
from retrieval.progress import ProgressMeter
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Hits, Mask, Vectors
from serving.answering.retriever import FusionName
from serving.answering.stages import SHORTLIST, LogitsOf, Stages, Step

BLOCK = 1024


@dataclass(frozen=True)
class Offline:
    """A data set's events over one index version, whose rows are the data set's own item rows."""

    stages: Stages
    timeline: Timeline
    position: NDArray[np.int64]  # of each event in the timeline, and the end
    query_texts: tuple[str, ...]
    target_kinds: tuple[int, ...]  # codes in the timeline's kinds

    @classmethod
    def of(cls, stages: Stages, events: Events, target_events: Sequence[str]) -> Offline:
        """Puts the events in the order and the codes that the user tower reads."""
        timeline, position = Timeline.from_events(events)
        if stages.user.config.kinds:
            timeline = timeline.recoded(stages.user.config.kinds)
        return cls(stages, timeline, position, events.query_texts, timeline.codes_of(target_events))

    def batch(self, requests: Requests) -> HistoryBatch:
        """The histories of requests, as the user tower reads them."""
        return self.timeline.batch(requests.user, self.position[requests.end], self.stages.longest)

    def seen(self, requests: Requests) -> CSR:
        """What each request's shopper had taken before (targets, not mere views)."""
        return self.timeline.items_before(requests.user, self.position[requests.end], self.target_kinds)

    def targets(self, requests: Requests, seen: CSR | None) -> CSR:
        """What each request was for, without what is removed as `seen`."""
        return targets_of(requests) if seen is None else targets_of(requests).without(seen)

    def told(self, requests: Requests, *, remove_seen: bool) -> tuple[Hits, CSR]:
        """The candidates of requests and the targets that may stand among them; what was taken before is in neither
        where it is removed."""
        seen = self.seen(requests) if remove_seen else None
        return self.shortlists(requests, seen), self.targets(requests, seen)

    def vectors(self, requests: Requests) -> Vectors:
        """The user tower's vector of each request, float32 [n, index_dim]."""
        return self.stages.history_vectors(self.batch(requests), self.query_texts)

    def asked(self, requests: Requests) -> RequestBatch:
        """What candidate sources read of each request."""
        ends = self.position[requests.end]
        history = self.timeline.items_before(requests.user, ends)
        left = self.timeline.items_browsed(requests.user, ends, self.target_kinds)
        return RequestBatch(history, self.seen(requests), left, requests.time // DAY, [""] * len(requests))

    def by_towers(self, requests: Requests, exclude: CSR | None, k: int = SHORTLIST) -> Hits:
        """The candidates of each request by the towers alone."""
        parts = _blocks(requests, exclude)
        return joined([self.stages.retriever.by_towers(self.vectors(part), k, own) for part, own in parts], k)

    def shortlists(self, requests: Requests, exclude: CSR | None, k: int = SHORTLIST) -> Hits:
        """The candidates of each request by all sources, without what `exclude` lists as taken before."""
        name: FusionName = "recommend" if exclude is None else "recommend_unseen"
        by_day = np.argsort(requests.time, kind="stable")  # sources of late make each day once
        found = (
            self.stages.retriever.shortlists(self.vectors(part), self.asked(part), k, name, own).hits
            for part, own in _blocks(requests.select(by_day), None if exclude is None else exclude.select(by_day))
        )
        return joined(list(found), k).select(np.argsort(by_day))

    def user_texts(self, requests: Requests) -> list[str]:
        """What the cross-encoder reads of each request's shopper."""
        return self.stages.user_texts(self.batch(requests), [None] * len(requests), self.timeline.kinds)


def _blocks(requests: Requests, exclude: CSR | None) -> Iterator[tuple[Requests, CSR | None]]:
    for start in range(0, len(requests), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(requests)))
        yield requests.select(part), None if exclude is None else exclude.select(part)


def by_towers(stages: Stages, vectors: Vectors, k: int = SHORTLIST) -> Hits:
    """The candidates of queries, given by their vectors [n, index_dim], by the towers alone."""
    parts = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
    return joined([stages.retriever.by_towers(part, k) for part in parts], k)


def query_shortlists(stages: Stages, texts: Sequence[str], vectors: Vectors, k: int = SHORTLIST) -> Hits:
    """The candidates of queries, given with their vectors [n, index_dim], by all sources."""
    parts = (slice(start, start + BLOCK) for start in range(0, len(vectors), BLOCK))
    found = (
        stages.retriever.shortlists(vectors[part], RequestBatch.of_texts(texts[part]), k, "search").hits
        for part in parts
    )
    return joined(list(found), k)


def joined(parts: Sequence[Hits], k: int) -> Hits:
    """Blocks of hits, one under the other."""
    if not parts:
        return Hits(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    told = {name: np.concatenate([part.parts[name] for part in parts]) for name in parts[0].parts}
    return Hits(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]), told)


class Logits:
    """The logits of (request, item) pairs by each step's cross-encoder, each computed once however many lists it stands
    in."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._known: dict[tuple[str, Placement], _Known] = {}  # by the model, and by where and how it runs

    def told(self, requests: NDArray[np.int64], texts: Sequence[str], what: str) -> LogitsOf:
        """What `Stages.rerank` takes for these requests: see `of`."""
        return lambda step, hits: self.of(step, requests, texts, hits, what)

    def of(
        self, step: Step, requests: NDArray[np.int64], texts: Sequence[str], hits: Hits, what: str
    ) -> NDArray[np.float32]:
        """`Stages.logits` of the heads of shortlists, float32 [n, depth], with progress.

        `requests` int64 [n] names each line, and `texts` is what stands for it, the same in every call.
        """
        known = self._known.setdefault((step.scorer.fingerprint, step.scorer.placement), _Known())
        depth = min(step.depth, hits.rows.shape[1])
        rows = hits.rows[:, :depth]
        keys = np.where(rows >= 0, requests[:, None] * self._stages.version.size + rows, -1)
        there, values = known.at(keys)
        missing = Hits(np.where(there, -1, rows), hits.scores[:, :depth])
        meter = ProgressMeter(int((missing.rows >= 0).sum()), what, unit="pairs")
        logits = np.where(there, values, self._stages.logits(step, texts, missing, done=meter.advance))
        meter.close()
        known.keep(keys[rows >= 0], logits[rows >= 0])
        return logits


class _Known:
    """Numbers by key."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.int64)  # request * n_items + row, ascending
        self._values = np.empty(0, np.float32)

    def at(self, keys: NDArray[np.int64]) -> tuple[Mask, NDArray[np.float32]]:
        """Which keys are known, and their values; nan for the others."""
        if not len(self._keys):
            return np.zeros(keys.shape, bool), np.full(keys.shape, np.nan, np.float32)
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        known = self._keys[at] == keys
        return known, np.where(known, self._values[at], np.float32(np.nan))

    def keep(self, keys: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Remember values."""
        merged, first = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        self._keys, self._values = merged, np.concatenate([self._values, values])[first]
