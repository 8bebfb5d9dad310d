"""Labelled shortlists with their heads reranked, and the gate that decides whether that is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.gate import GateVerdict, gate
from retrieval.metrics.ranking import Values, ndcg_at, without_ties
from retrieval.topk import Hits
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import Step
from serving.evaluation.batch_requests import KnownLogits, reranked
from serving.evaluation.figures import merge_reranked, needs_rerank, rerank_sample
from serving.evaluation.labelled import LabelledShortlists


@dataclass(frozen=True)
class Reranked:
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
    """The gate of a task: the order with the cross-encoder's logit against that without, and against others by name."""

    verdict: GateVerdict
    against: Mapping[str, GateVerdict]


def ranked(
    state: ReleaseState, found: LabelledShortlists, what: str, *, size: int = 0, logits: KnownLogits | None = None
) -> Reranked:
    """Reranks those of a sample of `size` requests (0: all) that have a target in the head of their shortlist; no other
    can change.

    `logits` are those of the same requests, kept from one way of asking to the next. `what` is shown with the progress.
    """
    hits = found.batch.candidates.hits
    sample = rerank_sample(len(hits.rows), size)
    part, wanted = hits.select(sample), found.targets.select(sample)
    which = np.flatnonzero(needs_rerank(part.head(state.depth), wanted))
    if not state.steps or not len(which):
        return Reranked(hits, sample, without_ties(part), which)
    lines = sample[which]
    after = reranked(state, found.batch.select(lines), logits or KnownLogits(state), lines, what)
    return Reranked(hits, sample, merge_reranked(part, which, after), which)


def gated(
    state: ReleaseState,
    control: tuple[Step, ...],
    parts: Sequence[LabelledShortlists],
    what: str,
    others: Mapping[str, Values],
) -> Gated | None:
    """nDCG@10 of all requests of some parts with the steps' logits and by the `control` steps, whose weights were
    fitted without any (none: the order that the steps are given), and what `others` have, float [n] each; None where
    there are no requests."""
    if not any(len(part) for part in parts):
        return None
    logits = KnownLogits(state)
    after = [ranked(state, part, what, logits=logits).reranked for part in parts]
    before = [part.hits for part in parts]
    if control:
        without = replace(state, steps=control)
        before = [ranked(without, part, what, logits=logits).reranked for part in parts]
    verdict = compared(parts, before, after)
    return Gated(verdict, {name: _gate(parts, values, _ndcg(parts, after)) for name, values in others.items()})


def compared(parts: Sequence[LabelledShortlists], before: Sequence[Hits], after: Sequence[Hits]) -> GateVerdict:
    """nDCG@10 of all requests of some parts in one order and in another, by a paired bootstrap over their owners."""
    return _gate(parts, _ndcg(parts, before), _ndcg(parts, after))


def _ndcg(parts: Sequence[LabelledShortlists], orders: Sequence[Hits]) -> Values:
    return np.concatenate([ndcg_at(hits, part.targets, 10) for part, hits in zip(parts, orders, strict=True)])


def _gate(parts: Sequence[LabelledShortlists], before: Values, after: Values) -> GateVerdict:
    owner, known = np.concatenate([part.owner for part in parts]), ~np.isnan(after)
    return gate(before[known], after[known], users=owner[known])
