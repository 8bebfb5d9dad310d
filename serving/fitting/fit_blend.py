"""The blends of a ranker with its retriever, fitted on ranker_valid: for each step, each order, and for grades."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.models.cross_encoder import sigmoid
from ranking.ordering.blend import MIN_LISTS, Blend, fit_blend
from ranking.ordering.platt import PlattScaling, platt, reliability
from ranking.training.pairs import GradeScale, members
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.release_settings import OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import GIVEN_ORDER, Step
from serving.answering.stages.encode import encode
from serving.answering.stages.rank import pair_logits, ranker_texts, rerank
from serving.answering.tasks import TASKS
from serving.evaluation.batch_requests import KnownLogits, QueriesAlone, with_texts
from serving.evaluation.figures import needs_rerank
from serving.evaluation.labelled import LabelledRequests, LabelledShortlists
from serving.shop import Shop

LISTS = 300  # shortlists that hold a target: so few weights need no more
PLATT_LISTS = 150  # of all shortlists, whatever they hold: a slope and an offset need no more
PAIRS = 9_000  # judged pairs, of as many queries as hold them


class Blended(NamedTuple):
    """The steps with their blends and, as their controls, the weights that were fitted on the same lists without any
    logit; and how well the last one's probabilities hold, by order."""

    steps: tuple[Step, ...]
    platt_scaling: dict[OrderName, PlattScaling]


class FittedBlend(NamedTuple):
    """A step's blend for one order, the weights of the same scores without the logit, and how well the probabilities
    hold; None where nothing was fitted."""

    blend: Blend
    control: Blend
    platt_scaling: PlattScaling | None = None


class ScoredPairs(NamedTuple):
    """Pairs of some shortlists in a step's hands: list i holds the pairs `indptr[i]:indptr[i + 1]`."""

    logits: NDArray[np.float32]
    retrieval: NDArray[np.float32]
    labels: NDArray[np.float32]
    indptr: NDArray[np.int64]
    parts: Mapping[str, NDArray[np.float32]]  # what each source gave

    def half(self, odd: int) -> NDArray[np.bool_]:
        """The pairs of every other list."""
        return np.repeat(np.arange(len(self.indptr) - 1) % 2 == odd, np.diff(self.indptr))


@dataclass(frozen=True)
class ValidShortlists:
    """Labelled shortlists of ranker_valid for one order, and the logits that models gave for them so far."""

    order: OrderName
    found: LabelledShortlists
    logits: KnownLogits

    @property
    def texts(self) -> Sequence[str]:
        """What the cross-encoder reads of each request."""
        return self.found.batch.ranker_texts or ()

    def first(self, most: int | None) -> ValidShortlists:
        """The first so many requests, or all."""
        return replace(self, found=self.found.select(np.arange(len(self.found))[:most]))


def fitted_steps(state: ReleaseState, shop: Shop, *, say: Callable[[str], None]) -> Blended:
    """The steps with their blends, each fitted on the order that the fitted steps before it give."""
    blended = fitted_on(valid_shortlists(state, shop), state, say=say)
    if shop.judgements is None or not blended.steps:
        return blended
    *before, last = blended.steps
    grades = _of_grades(replace(state, steps=blended.steps), shop)
    say(f"blend, {last.model} model, grade: {grades}")
    return blended._replace(steps=(*before, replace(last, blends={**last.blends, "grade": grades})))


def fitted_on(given: Sequence[ValidShortlists], state: ReleaseState, *, say: Callable[[str], None]) -> Blended:
    """The same for the orders of shortlists alone, without grades."""
    fitted: tuple[Step, ...] = ()
    held: dict[OrderName, PlattScaling] = {}
    for step in state.steps:
        found = {one.order: _of_shortlists(replace(state, steps=fitted), step, one) for one in given}
        for order, one in found.items():
            say(f"blend, {step.model} model, {order}: {one.blend}")
        blends: dict[str, Blend] = {order: one.blend for order, one in found.items()}
        controls: dict[str, Blend] = {order: one.control for order, one in found.items()}
        fitted = (*fitted, replace(step, blends=blends, controls=controls))
        held = {order: one.platt_scaling for order, one in found.items() if one.platt_scaling is not None}
    for order, platt_scaling in held.items():
        say(
            f"Platt scaling, {order}: calibration error {platt_scaling.before.error:.4f} before, "
            f"{platt_scaling.after.error:.4f} after"
        )
    return Blended(fitted, held)


def valid_shortlists(state: ReleaseState, shop: Shop) -> list[ValidShortlists]:
    """Of each order that there are requests of, as retrieval orders them."""
    logits: dict[str, KnownLogits] = defaultdict(lambda: KnownLogits(state))
    return [
        ValidShortlists(order, replace(found, batch=with_texts(state, found.batch)), logits[found.task.gate or ""])
        for order, found in LabelledRequests(state, shop).of_fold("ranker_valid")
    ]


def _of_shortlists(state: ReleaseState, step: Step, given: ValidShortlists) -> FittedBlend:
    """A step's blend for one order, see FittedBlend.

    The weights are fitted on shortlists that hold a target: only they tell one order from another. A slope and an
    offset, which change no order, are fitted on shortlists of all kinds, so that the sigmoid is the chance.
    """
    first, found = state.depth or step.depth, given.found
    texts = np.array([bool(text) for text in given.texts], bool)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    useful = needs_rerank(found.batch.candidates.hits.head(first), found.targets) & texts
    ordering = _scored(state, step, given, np.sort(shuffled[useful[shuffled]][:LISTS]))
    blend = fit_blend(ordering.logits, ordering.retrieval, ordering.labels, ordering.indptr, ordering.parts)
    if blend == Blend():
        return FittedBlend(blend, GIVEN_ORDER)
    nothing = np.zeros_like(ordering.logits)
    control = fit_blend(nothing, ordering.retrieval, ordering.labels, ordering.indptr, ordering.parts)
    every = _scored(state, step, given, np.sort(shuffled[texts[shuffled]][:PLATT_LISTS]))
    if np.count_nonzero(every.labels) < MIN_LISTS:
        return FittedBlend(blend, control)
    blended = blend(every.logits, every.retrieval, every.parts)
    return FittedBlend(blend.rescaled(*platt(blended, every.labels)), control, _platt_scaling(blended, every))


def _platt_scaling(blended: NDArray[np.float32], every: ScoredPairs) -> PlattScaling:
    """Reliability of each half of the lists by the line through the other half."""
    after = np.empty_like(blended)
    for odd in (0, 1):
        slope, offset = platt(blended[every.half(1 - odd)], every.labels[every.half(1 - odd)])
        after[every.half(odd)] = slope * blended[every.half(odd)] + offset
    before, then = (reliability(sigmoid(logits), every.labels) for logits in (blended, after))
    return PlattScaling(before, then)


def _scored(state: ReleaseState, step: Step, given: ValidShortlists, lines: NDArray[np.int64]) -> ScoredPairs:
    """The heads of some shortlists as the steps before give them to a step."""
    first, what = state.depth or step.depth, f"blend: {given.order}"
    texts, hits = [given.texts[i] for i in lines.tolist()], given.found.batch.candidates.hits.select(lines).head(first)
    ranking = rerank(state, texts, hits, given.order, logits_of=given.logits.of_requests(lines, texts, what))
    heads = ranking.hits.head(step.depth)
    at = ranking.places[:, : heads.rows.shape[1]]
    scores = np.take_along_axis(hits.scores, at, axis=1)
    of_step = given.logits.of(step, lines, texts, heads, what)
    kept = np.isfinite(of_step)
    labels = members(heads.rows, given.found.targets.select(lines))[kept].astype(np.float32)
    several = hits.parts if len(hits.parts) > 1 else {}  # of one alone retrieval's score is a multiple
    parts = {name: np.take_along_axis(part, at, axis=1)[kept] for name, part in several.items()}
    return ScoredPairs(of_step[kept], scores[kept], labels, np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), parts)


def _of_grades(state: ReleaseState, shop: Shop) -> Blend:
    """How good one item is for one query: fitted on the pairs judged for queries of ranker_valid, beside the towers'
    inner product alone, for words tell little among items that all of them share."""
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    queries = np.random.default_rng(0).permutation(shop.judgements.folds["ranker_valid"])
    sizes = np.diff(shop.judged(queries)[0].indptr)
    queries = queries[np.cumsum(sizes) <= PAIRS]
    judged, grades = shop.judged(queries)
    batch = Batch(requests=QueriesAlone(shop.query_texts(queries)), task=TASKS["search"])
    batch = run(state, batch, until=encode)
    labels = GradeScale.of(shop.data.judgements.grade).label(grades)
    retrieval = state.retriever.tower_scores(batch.vectors, judged)
    return fit_blend(pair_logits(state, ranker_texts(state, batch), judged), retrieval, labels, judged.indptr)
