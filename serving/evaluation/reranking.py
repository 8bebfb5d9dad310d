"""Labelled shortlists with their heads reranked, and the gate that decides whether that is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.gate import GateVerdict, gate
from retrieval.metrics.ranking import Values, ndcg_at, without_ties
from retrieval.topk import Hits
from serving.answering.release_state import ReleaseState
from serving.evaluation.batch_requests import KnownLogits, reranked
from serving.evaluation.figures import merge_reranked, needs_rerank, rerank_sample
from serving.evaluation.labelled import LabelledShortlists


@dataclass(frozen=True)
class Ranked:
    """Labelled shortlists, and a sample of them with the head reranked."""

    hits: Hits
    sample: NDArray[np.int64]  # positions of the requests that reranking is measured on
    reranked: Hits  # of those
    which: NDArray[np.int64]  # positions, among the sample, of those that reranking could change

    def stages(self, *, on: bool) -> dict[str, Hits]:
        """What an evaluation shows of the sample: the reranked order, and the final one, which is that one if reranking
        is `on`."""
        return {
            "reranked": self.reranked,
            "final": self.reranked if on else without_ties(self.hits.select(self.sample)),
        }


class Gated(NamedTuple):
    """The gate of a task: the reranked order against retrieval's, and against other orders by name."""

    verdict: GateVerdict
    against: Mapping[str, GateVerdict]


def ranked(
    state: ReleaseState, found: LabelledShortlists, what: str, *, size: int = 0, logits: KnownLogits | None = None
) -> Ranked:
    """Reranks those of a sample of `size` requests (0: all) that have a target in the head of their shortlist; no other
    can change.

    `logits` are those of the same requests, kept from one way of asking to the next. `what` is shown with the progress.
    """
    hits = found.batch.candidates.hits
    sample = rerank_sample(len(hits.rows), size)
    part, wanted = hits.select(sample), found.targets.select(sample)
    which = np.flatnonzero(needs_rerank(part.head(state.depth), wanted))
    if not state.steps or not len(which):
        return Ranked(hits, sample, without_ties(part), which)
    lines = sample[which]
    after = reranked(state, found.batch.select(lines), logits or KnownLogits(state), lines, what)
    return Ranked(hits, sample, merge_reranked(part, which, after), which)


def gated(
    state: ReleaseState, parts: Sequence[LabelledShortlists], what: str, others: Mapping[str, Values]
) -> Gated | None:
    """nDCG@10 of all requests of some parts before and after reranking, and what `others` have, float [n] each; None
    where there are no requests, or nothing that reranks."""
    if not state.steps or not any(len(part) for part in parts):
        return None
    found = [(part, ranked(state, part, what)) for part in parts]
    before = np.concatenate([ndcg_at(one.hits, part.targets, 10) for part, one in found])
    after = np.concatenate([ndcg_at(one.reranked, part.targets, 10) for part, one in found])
    owner, known = np.concatenate([part.owner for part in parts]), ~np.isnan(before)

    def against(values: Values) -> GateVerdict:
        return gate(values[known], after[known], users=owner[known])

    return Gated(against(before), {name: against(values) for name, values in others.items()})
