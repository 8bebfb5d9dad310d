"""Stage 6: the shortlist in the order of the feature ranker, where it earned its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.protocol import FeatureRanker
from ranking.features.registry import FeatureReader
from ranking.features.shortlists import Shortlists
from ranking.ordering.permute import rerank_order
from retrieval.sources.fusion import TOWERS
from retrieval.topk import Scores
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.scored import Scored

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

PARTS = ("_score", "_rank", "_gap")  # endings of the features of a source


def score(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `queries`, `vectors` and `candidates`, writes `candidates` in the ranker's order with its scores,
    and `scored`. What a query names by its id or code keeps its place in front. Nothing changes where the task's gate
    or the request says no, and for requests of which nothing is known, to whom what is popular is answered."""
    ranker = state.feature_ranker(batch.task.order, batch.task.gate) if batch.rerank else None
    if ranker is None or not batch.vectors.any():
        return batch
    reader = state.feature_reader(ranker)
    features, fused = read_features(state, batch, reader)
    return ordered(batch, ranker, features, fused)


def as_fused(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch in the order of the sources; None where no ranker would read features."""
    ranker = state.feature_ranker(batch.task.order, batch.task.gate) if batch.rerank else None
    return None if ranker is None or not batch.vectors.any() else batch


def ordered(batch: Batch, ranker: FeatureRanker, features: NDArray[np.float32], fused: Scores) -> Batch:
    """The batch with its shortlists in the order of a ranker, `features` float32 [n, k, n_features] being those it
    reads, and `fused` float32 [n, k]."""
    given, exact = batch.candidates, batch.candidates.exact
    rows = given.hits.rows
    scores = np.full(rows.shape, np.nan, np.float32)
    scored = (rows >= 0) & ~exact & batch.vectors.any(axis=1, keepdims=True)
    scores[scored] = ranker.score(features[scored], fused[scored])
    order, lines = rerank_order(given.hits, scores), np.arange(len(rows))[:, None]
    shown = np.where(scored, scores, given.hits.scores)[lines, order]
    if exact.any():
        shown = _front_raised(shown, exact[lines, order])
    candidates = given.permuted(order, np.minimum.accumulate(shown, axis=1))
    found = Scored(ranker, order, given.hits.scores[lines, order], features)
    return batch.having(candidates=candidates, scored=found)


def _front_raised(shown: Scores, front: NDArray[np.bool_]) -> Scores:
    """Scores with those of exact matches, bool [n, k], raised to the best of all others."""
    best = np.where(front | ~np.isfinite(shown), -np.inf, shown).max(axis=1, keepdims=True)
    return np.where(front, np.maximum(shown, best), shown)


def read_features(
    state: ReleaseState, batch: Batch, reader: FeatureReader, places: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], Scores]:
    """The features of every candidate, or of those at `places` int64 [k] alone, as a reader names them, float32
    [n, k, n_features], and their fused scores, float32 [n, k], 0 at a pad."""
    shortlists = shortlists_of(state, batch, sources_read(reader.names, state.facts.sources))
    return reader.read(shortlists, places), shortlists.fused if places is None else shortlists.fused[:, places]


def shortlists_of(state: ReleaseState, batch: Batch, sources: Sequence[str]) -> Shortlists:
    """What features read of a retrieved batch, with the scores of `sources`."""
    hits, users = batch.candidates.hits, batch.users
    missing = [name for name in sources if name not in hits.parts]
    behaviour = users.behaviour._replace(queries=batch.queries.corrected)
    more = state.retriever.score_hits(batch.vectors, behaviour, hits, missing)
    return Shortlists(
        rows=hits.rows,
        fused=np.where(np.isfinite(hits.scores) & (hits.rows >= 0), hits.scores, 0).astype(np.float32),
        scores={**hits.parts, **more},
        events=users.events,
        now=users.now,
        carts=users.given if batch.task.excludes_given else users.given.where(np.zeros(len(users.given.rows), bool)),
        vectors=batch.vectors,
        typed=batch.queries.typed,
        corrected=batch.queries.corrected,
    )


def sources_read(names: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The sources whose scores the features `names` read; the towers' are always at hand.

    >>> sources_read(["words_rank", "fused_score"], ["towers", "words", "newness"])
    ['words']
    """
    wanted = set(names)
    return [name for name in sources if name != TOWERS and any(name + part in wanted for part in PARTS)]
