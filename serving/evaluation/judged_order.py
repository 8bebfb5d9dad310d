"""How a release orders the judged items of queries, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ranking.training.pairs import GradeScale
from retrieval.sources.fusion import TOWERS
from retrieval.sources.protocols import RequestBatch
from retrieval.topk import CSR, Hits, Mask, Scores
from serving.answering.batch import Batch
from serving.answering.release_state import ReleaseState
from serving.answering.retriever import Candidates
from serving.answering.stages.rank import pair_logits
from serving.answering.stages.score import read_features
from serving.evaluation.figures import JudgedTask

Number = TypeVar("Number", np.int64, np.float32)
BLOCK = 256  # queries whose judged items are scored at once


def judged_task(
    state: ReleaseState,
    batch: Batch,
    judged: CSR,
    grades: NDArray[np.floating],
    baselines: Mapping[str, Scores],
    scale: GradeScale,
) -> JudgedTask:
    """The judged pairs of a batch of queries with what each stage gives to them: the towers, the sources together, the
    ranker over features where it passed its gate, the cross-encoder, and the final order. `baselines` are scores
    float32 [n_pairs] of others by name, `grades` float [n_pairs]."""
    retriever = state.retriever
    towers = retriever.tower_scores(batch.vectors, judged)
    fused = retriever.pair_scores(batch.vectors, RequestBatch.of_texts(batch.queries.corrected), judged, "search")
    scores = {**baselines, "retrieval": towers}
    if retriever.fusion("search").sources:
        scores["fused"] = fused
    ordered = by_features(state, batch, judged, fused, towers)
    if ordered is not None:
        scores["features"] = ordered
    predicted = _predicted(state, batch.ranker_texts or (), judged, towers, scale)
    if "search" in state.reranks and predicted:
        return JudgedTask(
            judged=judged, grades=grades, scores=scores, predicted={**predicted, "final": predicted["reranked"]}
        )
    final = fused if ordered is None else ordered
    return JudgedTask(judged=judged, grades=grades, scores={**scores, "final": final}, predicted=predicted)


def by_features(state: ReleaseState, batch: Batch, judged: CSR, fused: Scores, towers: Scores) -> Scores | None:
    """What the ranker over features gives to each judged pair, float32 [n_pairs], the judged items of a query being its
    shortlist; None where it does not order searches."""
    ranker = state.feature_ranker("search", "search")
    if ranker is None:
        return None
    reader, found = state.feature_reader(ranker), np.empty(len(judged.rows), np.float32)
    for start in range(0, len(batch), BLOCK):
        lines = np.arange(start, min(start + BLOCK, len(batch)))
        at = slice(judged.indptr[start], judged.indptr[lines[-1] + 1])
        there, lists = _padded(np.diff(judged.indptr)[lines])
        order = np.lexsort((-fused[at], lists))
        hits = Hits(
            _filled(there, judged.rows[at][order], -1),
            _filled(there, fused[at][order], -np.inf),
            {TOWERS: _filled(there, towers[at][order], 0)},
        )
        features, base = read_features(state, batch.select(lines).having(candidates=Candidates(hits, {})), reader)
        scored = ranker.score(features[there], base[there])
        found[at][order] = scored
    return found


def _padded(sizes: NDArray[np.int64]) -> tuple[Mask, NDArray[np.int64]]:
    """Which places lists of these sizes fill, bool [n, longest], and the list of each of their entries."""
    there = np.arange(sizes.max(initial=0)) < sizes[:, None]
    return there, np.repeat(np.arange(len(sizes)), sizes)


def _filled(there: Mask, values: NDArray[Number], pad: float) -> NDArray[Number]:
    found: NDArray[Number] = np.full(there.shape, pad, values.dtype)
    found[there] = values
    return found


def _predicted(
    state: ReleaseState, texts: Sequence[str], judged: CSR, towers: Scores, scale: GradeScale
) -> dict[str, Scores]:
    """The grade that the cross-encoder and the towers' scores together give to each judged pair."""
    if not state.steps:
        return {}
    return {"reranked": scale.grade(state.steps[-1].blend("grade")(pair_logits(state, texts, judged), towers))}
