"""Requests whose outcome is known through the engine's pipeline in batches, users as of each request's own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranking.models.placement import Placement
from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.data.timeline import Timeline
from retrieval.progress import ProgressMeter
from retrieval.topk import CSR, Hits, Mask
from serving.answering.batch import Batch, LogitsOf, RequestSource
from serving.answering.pipeline import run
from serving.answering.release_settings import SHORTLIST
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import Step
from serving.answering.stages.rank import rank, ranker_texts, step_logits
from serving.answering.stages.retrieve import retrieve
from serving.answering.stages.score import score
from serving.answering.tasks import Task
from serving.answering.user_context import UserContexts, contexts_at

BLOCK = 1024  # requests whose candidates are fetched at once
SEARCH_WINDOW = 3_600_000_000  # microseconds after a query within which what was taken counts as its outcome
EVERY_GATE = frozenset({"recommend", "recommend_unseen", "search", "personalised_search", "complete_cart"})


@dataclass(frozen=True)
class PastEvents:
    """The events of a data set over one index version, whose rows are the data set's own item rows."""

    timeline: Timeline
    position: NDArray[np.int64]  # of each event in the timeline, and the end
    query_texts: tuple[str, ...]
    targets: tuple[int, ...]  # codes of the kinds of events by which an item is taken

    @classmethod
    def of(cls, state: ReleaseState, events: Events, target_events: Sequence[str]) -> PastEvents:
        """In the order and the codes that the user tower reads."""
        timeline, position = Timeline.from_events(events)
        if state.user_tower.config.kinds:
            timeline = timeline.recoded(state.user_tower.config.kinds)
        return cls(timeline, position, events.query_texts, timeline.codes_of(target_events))

    def recommendations(self, requests: Requests) -> PastRequests:
        """What each shopper would have been recommended just before they took what they took."""
        return PastRequests(self, requests.user, self.position[requests.end], requests.time)

    def searches(self, requests: Requests) -> tuple[PastRequests, NDArray[np.int64]]:
        """What each shopper searched for last before they took what they took, at most SEARCH_WINDOW before, asked with
        their history before the query; and which of the requests these are, int64 positions."""
        ends = self.position[requests.end]
        at = self.timeline.last_query_before(requests.user, ends, requests.time, SEARCH_WINDOW)
        which = np.flatnonzero(at >= 0)
        at = at[which]
        texts = [self.query_texts[code] for code in self.timeline.query[at].tolist()]
        return PastRequests(self, requests.user[which], at, self.timeline.time[at], texts), which

    def carts(self, requests: Requests, carts: CSR) -> PastRequests:
        """Carts, a list of item rows for each request, to be completed as of the request's time."""
        return replace(self.recommendations(requests), given=carts)


@dataclass(frozen=True)
class PastRequests:
    """Requests of shoppers as they were known at some time: see RequestSource."""

    past: PastEvents
    user: NDArray[np.int32]  # [n]
    ends: NDArray[np.int64]  # [n] positions in the timeline before which the history stands
    now: NDArray[np.int64]  # [n] microseconds since 1970, UTC
    queries: Sequence[str] | None = None  # [n]; None: nothing is searched for
    given: CSR | None = None  # [n] carts; None: none

    def __len__(self) -> int:
        return len(self.user)

    def select(self, part: NDArray[np.int64]) -> PastRequests:
        """See RequestSource."""
        queries, given = self.queries, self.given
        return PastRequests(
            self.past,
            self.user[part],
            self.ends[part],
            self.now[part],
            None if queries is None else [queries[at] for at in part.tolist()],
            None if given is None else given.select(part),
        )

    @property
    def texts(self) -> Sequence[str]:
        """See RequestSource."""
        return [""] * len(self) if self.queries is None else self.queries

    def users(self, state: ReleaseState) -> UserContexts:
        """See RequestSource."""
        past, longest = self.past, state.user_contexts.longest
        found = contexts_at(past.timeline, self.user, self.ends, self.now, longest=longest, targets=past.targets)
        found = replace(found, query_texts=past.query_texts)
        if self.given is None:
            return found
        return found.then_given(self.given, next(iter(past.targets), -1), longest)

    def taken(self) -> CSR:
        """What each shopper had taken before, item rows, one for each event."""
        return self.past.timeline.items_before(self.user, self.ends, self.past.targets)


@dataclass(frozen=True)
class QueriesAlone:
    """Queries of nobody known: see RequestSource."""

    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, part: NDArray[np.int64]) -> QueriesAlone:
        """See RequestSource."""
        return QueriesAlone([self.texts[at] for at in part.tolist()])

    def users(self, state: ReleaseState) -> UserContexts:
        """See RequestSource."""
        return UserContexts.nobody(len(self))


def retrieved(state: ReleaseState, requests: RequestSource, task: Task, *, k: int = SHORTLIST) -> Batch:
    """Requests of one task with their candidates, as the release orders them before any text is read, block by block;
    see `pipeline.run`."""
    order = _by_day(requests)
    if not len(order):
        return run(state, Batch(requests=requests, task=task, k=k), until=score)
    blocks = (requests.select(order[start : start + BLOCK]) for start in range(0, len(order), BLOCK))
    batches = [_lighter(run(state, Batch(requests=block, task=task, k=k), until=score)) for block in blocks]
    return Batch.retrieved(requests.select(order), batches).select(np.argsort(order))


def _lighter(batch: Batch) -> Batch:
    """The batch without its features."""
    return batch if batch.scored is None else replace(batch, scored=replace(batch.scored, features=None))


def fused_hits(batch: Batch) -> Hits:
    """The candidates of retrieved requests in the order of the fused sources."""
    hits = batch.candidates.hits
    return hits if batch.scored is None else batch.scored.before(hits)


def by_towers(batch: Batch, state: ReleaseState) -> Hits:
    """The candidates of retrieved requests by the towers alone."""
    alone = replace(batch, task=replace(batch.task, order=None))
    parts = (np.arange(start, min(start + BLOCK, len(batch))) for start in range(0, len(batch), BLOCK))
    found = [run(state, alone.select(part), since=retrieve, until=retrieve).candidates.hits for part in parts]
    return Hits.join(found) if found else batch.candidates.hits


def with_texts(state: ReleaseState, batch: Batch) -> Batch:
    """The batch with what the cross-encoder reads of each request."""
    return replace(batch, ranker_texts=ranker_texts(state, batch))


def reranked(state: ReleaseState, batch: Batch, logits: KnownLogits, lines: NDArray[np.int64], what: str) -> Hits:
    """Retrieved requests reranked whatever their gate says. `lines` int64 [n] names each for `logits`; `what` is shown
    beside the progress."""
    if batch.ranker_texts is None:
        batch = with_texts(state, batch)
    texts = batch.ranker_texts or ()
    batch = replace(batch, logits_of=logits.of_requests(lines, texts, what))
    found = run(replace(state, reranks=EVERY_GATE), batch, since=rank, until=rank)
    return batch.candidates.hits if found.ranking is None else found.ranking.hits


class KnownLogits:
    """The logits of (request, item) pairs by each step's model, each computed once however many shortlists it is in."""

    def __init__(self, state: ReleaseState) -> None:
        self._state = state
        self._known: dict[tuple[str, Placement], _Table] = {}  # by the model, and by where and how it runs

    def of_requests(self, requests: NDArray[np.int64], texts: Sequence[str], what: str) -> LogitsOf:
        """What `rank.rerank` takes for these requests: see `of`."""
        return lambda step, hits: self.of(step, requests, texts, hits, what)

    def of(
        self, step: Step, requests: NDArray[np.int64], texts: Sequence[str], hits: Hits, what: str
    ) -> NDArray[np.float32]:
        """`rank.step_logits` of the heads of shortlists, float32 [n, depth], with progress.

        `requests` int64 [n] names each line, and `texts` is what stands for it, the same in every call.
        """
        known = self._known.setdefault((step.scorer.fingerprint, step.scorer.placement), _Table())
        depth = min(step.depth, hits.rows.shape[1])
        rows = hits.rows[:, :depth]
        keys = np.where(rows >= 0, requests[:, None] * self._state.version.size + rows, -1)
        there, values = known.at(keys)
        missing = Hits(np.where(there, -1, rows), hits.scores[:, :depth])
        meter = ProgressMeter(int((missing.rows >= 0).sum()), what, unit="pairs")
        logits = np.where(there, values, step_logits(self._state, step, texts, missing, done=meter.advance))
        meter.close()
        known.keep(keys[rows >= 0], logits[rows >= 0])
        return logits


class _Table:
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


def _by_day(requests: RequestSource) -> NDArray[np.int64]:
    """Positions in the order of the requests' time: recent popularity and the like are computed once a day."""
    if isinstance(requests, PastRequests):
        return np.argsort(requests.now, kind="stable")
    return np.arange(len(requests))
