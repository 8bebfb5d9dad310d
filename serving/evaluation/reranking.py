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
from serving.evaluation.batch_requests import KnownLogits, reranked, with_texts
from serving.evaluation.figures import given_stage, merge_reranked, needs_rerank
from serving.evaluation.labelled import LabelledShortlists


@dataclass(frozen=True)
class Reranked:
    """Labelled shortlists, and a sample of them with the head reranked."""

    hits: Hits
    sample: NDArray[np.int64]  # positions of the requests that reranking is measured on
    reranked: Hits  # of those
    which: NDArray[np.int64]  # positions, among the sample, of those that reranking could change
    reweighed: Hits  # of the sample, by the weights that were fitted without the cross-encoder's logit

    @property
    def weights_move(self) -> bool:
        """Whether the weights without the logit change any order that was given."""
        return not np.array_equal(without_ties(self.hits.select(self.sample)).rows, self.reweighed.rows)


class Gated(NamedTuple):
    """The gate of a task: the order with the cross-encoder's logit against that without, and against others by name."""

    verdict: GateVerdict
    against: Mapping[str, GateVerdict]


def ranked(
    state: ReleaseState,
    found: LabelledShortlists,
    what: str,
    *,
    sample: NDArray[np.int64] | None = None,
    logits: KnownLogits | None = None,
) -> Reranked:
    """Reranks those requests of a sample (int64 positions; None: all) that have a target in the head of their
    shortlist, with the logits of the steps and by the weights that were fitted without; no other can change.

    `logits` are those of the same requests, kept from one way of asking to the next. `what` is shown with the progress.
    """
    hits = found.batch.candidates.hits
    sample = np.arange(len(hits.rows)) if sample is None else sample
    part, wanted = hits.select(sample), found.targets.select(sample)
    which = np.flatnonzero(needs_rerank(part.head(state.depth), wanted))
    if not state.steps or not len(which):
        return Reranked(hits, sample, without_ties(part), which, without_ties(part))
    lines, logits = sample[which], logits or KnownLogits(state)
    batch = found.batch.select(lines)
    batch = with_texts(state, batch) if batch.ranker_texts is None else batch
    after, without = (reranked(one, batch, logits, lines, what) for one in (state, state.without_logits()))
    return Reranked(hits, sample, merge_reranked(part, which, after), which, merge_reranked(part, which, without))


def sampled_stages(orders: Sequence[Reranked], *, on: bool) -> dict[str, Hits]:
    """What an evaluation shows of the samples, one after the other: the reranked order, which is the final one if
    reranking is `on`, and the reweighed one where it is not the order that was given."""
    after = Hits.join([order.reranked for order in orders])
    found = {"reranked": after, **({"final": after} if on else {})}
    if not any(order.weights_move for order in orders):
        return found
    return {"reweighed": Hits.join([order.reweighed for order in orders]), **found}


def joined_stages(parts: Sequence[Mapping[str, Hits]]) -> dict[str, Hits]:
    """The stages of all parts, their requests one part after the other. A stage that only some parts have leaves the
    others as the stage before it does."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: Hits.join([part.get(name, part[given_stage(part)]) for part in parts]) for name in names}


def gated(
    state: ReleaseState, parts: Sequence[LabelledShortlists], what: str, others: Mapping[str, Values]
) -> Gated | None:
    """nDCG@10 of all requests of some parts with the steps' logits, against that by the weights that were fitted
    without and against what `others` have, float [n] each; None where there are no requests."""
    if not any(len(part) for part in parts):
        return None
    orders = [ranked(state, part, what) for part in parts]
    after = [order.reranked for order in orders]
    verdict = compared(parts, [order.reweighed for order in orders], after)
    return Gated(verdict, {name: _gate(parts, values, _ndcg(parts, after)) for name, values in others.items()})


def compared(parts: Sequence[LabelledShortlists], before: Sequence[Hits], after: Sequence[Hits]) -> GateVerdict:
    """nDCG@10 of all requests of some parts in one order and in another, by a paired bootstrap over their owners."""
    return _gate(parts, _ndcg(parts, before), _ndcg(parts, after))


def _ndcg(parts: Sequence[LabelledShortlists], orders: Sequence[Hits]) -> Values:
    return np.concatenate([ndcg_at(hits, part.targets, 10) for part, hits in zip(parts, orders, strict=True)])


def _gate(parts: Sequence[LabelledShortlists], before: Values, after: Values) -> GateVerdict:
    owner, known = np.concatenate([part.owner for part in parts]), ~np.isnan(after)
    return gate(before[known], after[known], users=owner[known])
