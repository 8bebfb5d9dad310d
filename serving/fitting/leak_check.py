"""Whether features know the future: those of past requests against the same from a shop cut to what was known then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranking.features.registry import FeatureReader
from ranking.features.shortlists import EVENTS, ShopperEvents
from retrieval.data.requests import Requests
from retrieval.data.timeline import Timeline
from retrieval.errors import BadConfig
from retrieval.sources.protocols import CandidateSource
from retrieval.topk import Mask
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.release_state import ReleaseState
from serving.answering.source_registry import OpenedParts, Sources
from serving.answering.stages.retrieve import retrieve
from serving.answering.stages.score import read_features, shortlists_of, sources_read
from serving.answering.tasks import TASKS
from serving.evaluation.batch_requests import PastEvents, PastRequests
from serving.shop import Shop

CHECKED = 300  # requests
IN_A_RUN = 50  # requests of a run
EVENTS_IN_A_RUN = 20_000_000  # events that are cut, over all its requests
TOLERANCE = 1e-5


@dataclass(frozen=True)
class KnownThen:
    """The timeline of a shop as it was known to single requests.

    Where times are dates, that is what all shoppers did strictly before the request; else the events `train`, bool
    [n_timeline]. Of the shopper who asks it is always what stands before the request.
    """

    timeline: Timeline
    train: Mask
    dated: bool

    @classmethod
    def of(cls, past: PastEvents, train: Mask, *, dated: bool) -> KnownThen:
        """From the events of a shop, of which `train`, bool [n_events], are those that models learned from."""
        known = np.zeros(len(past.timeline.item), bool)
        known[past.position[1:][train] - 1] = True  # an event stands behind the query that led to it
        return cls(past.timeline, known, dated)

    def at(self, user: int, end: int, now: int) -> tuple[Timeline, int]:
        """The timeline as known to a user whose history ends before `end` and who asks at `now`, and that end in it."""
        known = self.timeline.time < now if self.dated else self.train.copy()
        begin, after = int(self.timeline.offsets[user]), int(self.timeline.offsets[user + 1])
        known[begin:end], known[end:after] = True, False
        places = np.concatenate(([0], np.cumsum(known))).astype(np.int64)
        columns = {name: getattr(self.timeline, name)[known] for name in ("item", "query", "kind", "time")}
        return replace(self.timeline, **columns, offsets=places[self.timeline.offsets]), int(places[end])


def leaking_features(
    state: ReleaseState, shop: Shop, names: Sequence[str], *, most: int = CHECKED, remake: bool = True
) -> dict[str, float]:
    """The features, of `names`, that differ for some request from what they are in a shop that knows nothing later, and
    the share of the candidates for which they do.

    At most `most` requests are drawn evenly from all folds but test. With `remake`, sources that need no more than the
    events and the items are made anew over that shop as well. What is computed from training events alone, such as
    similarities and ratings, is known to every request, and so is what sources make of it.
    """
    split, events = shop.events, shop.data.events
    if split is None or events is None:
        return {}
    past = PastEvents.of(state, events, shop.target_events)
    requests = _drawn([fold for name, fold in split.folds.items() if name != "test" and len(fold)], most)
    if requests is None:
        return {}
    asked = past.recommendations(requests)
    task = TASKS["recommend_unseen" if state.filter_seen else "recommend"]
    batch = run(state, Batch(requests=asked, task=task), until=retrieve)
    reader = FeatureReader.of(names, state.facts)
    found, _ = read_features(state, batch, reader)
    known = KnownThen.of(past, split.train, dated=state.facts.dated)
    then = _recomputed(state, batch, asked, reader, known, remake=remake)
    shown = batch.candidates.hits.rows >= 0
    differ = ~np.isclose(found, then, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)[shown]
    shares = differ.mean(axis=0) if len(differ) else np.zeros(len(reader.names))
    return {name: float(share) for name, share in zip(reader.names, shares, strict=True) if share > 0}


def require_no_leak(
    state: ReleaseState, shop: Shop, names: Sequence[str], *, say: Callable[[str], None], most: int = IN_A_RUN
) -> None:
    """Says that no feature of `names` knows the future; what sources score is taken as it is given, for some take a
    second to be made. Raises BadConfig, naming the worst one, where some do."""
    if shop.data.events is None:
        return
    most = int(np.clip(EVENTS_IN_A_RUN // max(1, len(shop.data.events.item)), 1, most))
    leaks = leaking_features(state, shop, names, most=most, remake=False)
    if leaks:
        name = max(leaks, key=leaks.__getitem__)
        raise BadConfig(
            f"the feature {name} knows what happened at or after the request ({leaks[name]:.1%} of candidates, "
            f"{len(leaks)} such features); let its group count only what is before `Shortlists.now` and, where "
            "`ShopFacts.dated` is false, nothing of other shoppers but `figures`"
        )
    say(f"second stage: {len(names)} features of {most} requests know nothing of later events")


def _recomputed(
    state: ReleaseState, batch: Batch, asked: PastRequests, reader: FeatureReader, known: KnownThen, *, remake: bool
) -> NDArray[np.float32]:
    """The features of each request alone, from the shop as it was known to it, float32 [n, k, n_features]."""
    sources, parts = sources_read(reader.names, state.facts.sources), []
    for line in range(len(batch)):
        user, end = int(asked.user[line]), int(asked.ends[line])
        timeline, cut_end = known.at(user, end, int(asked.now[line]))
        one = batch.select(np.array([line]))
        shortlists = shortlists_of(state, one, sources)
        if remake:
            made = replace(state.retriever, sources=_made_anew(state, timeline, sources))
            again = made.score_hits(one.vectors, one.users.behaviour, one.candidates.hits, tuple(made.sources))
            shortlists = replace(shortlists, scores={**shortlists.scores, **again})
        own = timeline.events_before(np.array([user]), np.array([cut_end]), EVENTS)
        cut = replace(reader, facts=state.facts.with_timeline(timeline))
        parts.append(cut.read(replace(shortlists, events=ShopperEvents(*own))))
    return np.concatenate(parts) if parts else np.empty((0, 0, len(reader.names)), np.float32)


def _made_anew(state: ReleaseState, timeline: Timeline, names: Sequence[str]) -> dict[str, CandidateSource]:
    """Those of the named sources that can be made of events and items, made of a timeline's."""
    store = replace(state.user_store, timeline=timeline, similarities={})
    sources = Sources(OpenedParts(state.version, store, state.settings.targets, None, state.settings.language))
    return {name: sources[name] for name in names if name in sources}


def _drawn(folds: Sequence[Requests], most: int) -> Requests | None:
    """Requests of several folds, evenly, at most `most` in all."""
    if not folds:
        return None
    each = max(1, most // len(folds))
    parts = [fold.select(np.unique(np.linspace(0, len(fold) - 1, each).astype(np.int64))) for fold in folds]
    return Requests.join(parts)
