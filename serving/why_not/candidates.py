"""Why an item is no candidate: no source proposes it, their sum is too low, or an approximate index missed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrieval.sources.fusion import TOWERS, Fusion
from retrieval.sources.registry import source_specs
from retrieval.topk import Hits
from serving.answering import pipeline
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.retriever import Candidates
from serving.answering.stages.retrieve import retrieve
from serving.answering.stages.score import score
from serving.explanation import Reason
from serving.why_not.ordering import LAST_ORDERING, place_in
from serving.why_not.result import Finding, Fix, SourceGap, finding

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

RETRIEVAL = "retrieval"
DEEPER = 8  # times as many candidates among which an item is looked for


def no_candidate(state: ReleaseState, retrieved: Batch, row: int) -> Finding:
    """Why an item is not among the candidates of a request, and how many it would take."""
    depth, hits = _depth(state, retrieved, row), retrieved.candidates.hits
    fixes = [Fix({"k": depth}, depth)] if depth else []
    own, n = _with_item(state, retrieved, row), int((hits.rows[0] >= 0).sum())
    last, score_of_item = own.candidates.hits.scores[0, [-2, -1]].tolist()
    if not retrieved.vectors.any() and not score_of_item:
        return _less_popular(state, retrieved, row, fixes)
    sources = _gaps(state, own, n)
    return finding(
        RETRIEVAL,
        _reason(state, sources, n, score_of_item, last),
        *fixes,
        sources=sources,
        place_as_candidate=place_in(pipeline.run(state, own, since=score, until=LAST_ORDERING), row),
        short_of=max(0.0, last - score_of_item),
    )


def _with_item(state: ReleaseState, retrieved: Batch, row: int) -> Batch:
    """The request with an item behind its candidates, scored as they are by the sources."""
    order, hits = retrieved.task.order, retrieved.candidates.hits
    fusion = Fusion.of_towers() if order is None else state.retriever.fusion(order)
    behaviour = retrieved.users.behaviour._replace(queries=retrieved.queries.corrected)
    alone = Hits(np.array([[row]]), np.zeros((1, 1), np.float32))
    parts = state.retriever.score_hits(retrieved.vectors, behaviour, alone, fusion.sources)
    present = hits.rows[0] >= 0
    joined = Hits(
        np.append(hits.rows[:, present], alone.rows, axis=1),
        np.append(hits.scores[:, present], fusion(parts), axis=1),
        {name: np.append(part[:, present], parts[name], axis=1) for name, part in hits.parts.items()},
    )
    proposed = {
        name: np.append(mask[:, present], [[False]], axis=1) for name, mask in retrieved.candidates.proposed.items()
    }
    return retrieved.having(candidates=Candidates(joined, proposed))


def _gaps(state: ReleaseState, own: Batch, n: int) -> dict[str, SourceGap]:
    """What each source that counts gives the last candidate of `own`, and the last of the n that it proposes."""
    order, hits = own.task.order, own.candidates.hits
    fusion = Fusion.of_towers() if order is None else state.retriever.fusion(order)
    behaviour = own.users.behaviour._replace(queries=own.queries.corrected)
    last = state.retriever.last_proposed(own.vectors, behaviour, n, fusion.sources, own.exclude, own.allowed)
    found = {}
    for name, scores in (hits.parts or {TOWERS: hits.scores}).items():
        end = float(last[name][0])
        found[name] = SourceGap(float(scores[0, -1]), end if np.isfinite(end) else None, fusion.weights.get(name, 0.0))
    return found


def _reason(state: ReleaseState, sources: Mapping[str, SourceGap], n: int, score_of_item: float, last: float) -> Reason:
    """What kept an item from the n candidates, of which the last has the score `last`."""
    towers = sources.get(TOWERS)
    missed = towers is not None and towers.last is not None and towers.score > towers.last
    if towers is not None and missed and not state.version.index.is_exact:
        return Reason("why_not.approximate", {"score": _shown(towers.score), "last": _shown(towers.last)})
    proposing = {spec.name for spec in source_specs() if spec.proposes} | {TOWERS}
    known = {name: gap for name, gap in sources.items() if name in proposing and gap.weight and gap.score}
    if not known:
        return Reason("why_not.unknown_to_sources")
    if any(gap.last is None or gap.score >= gap.last for gap in known.values()):
        told = {"n": str(n), "score": _shown(score_of_item), "last": _shown(last)}
        return Reason("why_not.outscored", told)
    name, gap = min(known.items(), key=lambda one: one[1].weight * ((one[1].last or 0.0) - one[1].score))
    told = {"source": name, "score": _shown(gap.score), "last": _shown(gap.last)}
    return Reason("why_not.not_proposed", told)


def _less_popular(state: ReleaseState, retrieved: Batch, row: int, fixes: Sequence[Fix]) -> Finding:
    """Of an item that is not among the popular ones that a request of nobody known is answered with."""
    rows = retrieved.candidates.hits.rows[0]
    counts = state.retriever.popularity
    own, last = float(counts[row]), float(counts[rows[rows >= 0][-1]])
    told = {"n": str(int((rows >= 0).sum())), "score": f"{own:.0f}", "last": f"{last:.0f}"}
    return finding(RETRIEVAL, Reason("why_not.less_popular", told), *fixes, short_of=last - own)


def _depth(state: ReleaseState, retrieved: Batch, row: int) -> int:
    """How many candidates it takes for an item to be one; 0: more than DEEPER times as many."""
    most = min(DEEPER * retrieved.candidates.hits.rows.shape[1], state.version.size)
    place = _place_among(state, retrieved, row, most)
    return most if place and not _place_among(state, retrieved, row, place) else place


def _place_among(state: ReleaseState, retrieved: Batch, row: int, n: int) -> int:
    """The place of an item from 1 among n candidates; 0 where it is none."""
    rows = retrieve(state, retrieved.having(k=n), Deadline(None)).candidates.hits.rows[0]
    return int(np.flatnonzero(rows == row)[0]) + 1 if row in rows else 0


def _shown(value: float | None) -> str:
    return f"{value:.3f}"
