"""The blends of a ranker with its retriever, fitted on ranker_valid: for each step, each order, and for grades."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.models.cross_encoder import sigmoid
from ranking.ordering.blend import MIN_LISTS, Blend, fit_blend
from ranking.ordering.platt import PlattScaling, platt, reliability
from ranking.training.pairs import GradeScale, members
from retrieval.topk import CSR, Hits
from serving.answering.retriever import FusionName
from serving.answering.stages import Stages, Step
from serving.evaluation.batch_requests import Logits, Offline, query_shortlists
from serving.evaluation.figures import needs_rerank, relevant_rows
from serving.shop import Shop

LISTS = 300  # shortlists that hold a target: so few weights need no more
CALIBRATED = 150  # of all shortlists, whatever they hold: a slope and an offset need no more
PAIRS = 9_000  # judged pairs, of as many queries as hold them


class Blended(NamedTuple):
    """The steps with their blends, and how well the last one's probabilities hold, by order."""

    steps: tuple[Step, ...]
    calibration: dict[FusionName, PlattScaling]


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


class ToldLists(NamedTuple):
    """Requests of ranker_valid for one order, what retrieval gives them, and the logits that models gave so far."""

    name: FusionName
    texts: Sequence[str]
    hits: Hits
    targets: CSR
    logits: Logits

    def first(self, most: int | None) -> ToldLists:
        """The first so many requests, or all."""
        kept = np.arange(len(self.texts))[:most]
        return self._replace(texts=self.texts[:most], hits=self.hits.select(kept), targets=self.targets.select(kept))


def fitted_steps(stages: Stages, shop: Shop, *, remove_seen: bool, say: Callable[[str], None]) -> Blended:
    """The steps with their blends, each fitted on the order that the fitted steps before it give."""
    blended = fitted_on(valid_shortlists(stages, shop, remove_seen=remove_seen), stages, say=say)
    if shop.judgements is None or not blended.steps:
        return blended
    *before, last = blended.steps
    grades = _of_grades(replace(stages, steps=blended.steps), shop)
    say(f"blend, {last.model} model, grade: {grades}")
    return blended._replace(steps=(*before, replace(last, blends={**last.blends, "grade": grades})))


def fitted_on(given: Sequence[ToldLists], stages: Stages, *, say: Callable[[str], None]) -> Blended:
    """The same for the orders of shortlists alone, without grades."""
    fitted: tuple[Step, ...] = ()
    held: dict[FusionName, PlattScaling] = {}
    for step in stages.steps:
        found = {one.name: _of_shortlists(replace(stages, steps=fitted), step, one) for one in given}
        for task, (blend, _) in found.items():
            say(f"blend, {step.model} model, {task}: {blend}")
        fitted = (*fitted, replace(step, blends={task: blend for task, (blend, _) in found.items()}))
        held = {task: calibration for task, (_, calibration) in found.items() if calibration is not None}
    for task, calibration in held.items():
        say(f"calibration, {task}: error {calibration.before.error:.4f}, {calibration.after.error:.4f} after it")
    return Blended(fitted, held)


def valid_shortlists(stages: Stages, shop: Shop, *, remove_seen: bool) -> list[ToldLists]:
    """Of each task that there are requests of, as retrieval orders them."""
    found = []
    if shop.events is not None:
        assert shop.data.events is not None
        requests = shop.events.folds["ranker_valid"]
        offline = Offline.of(stages, shop.data.events, shop.target_events)
        texts, logits = offline.user_texts(requests), Logits(stages)
        hits, targets = offline.told(requests, remove_seen=remove_seen)
        found.append(ToldLists("recommend", texts, hits, targets, logits))
        if "recommend_unseen" in stages.retriever.fusions:
            hits, targets = offline.told(requests, remove_seen=True)
            found.append(ToldLists("recommend_unseen", texts, hits, targets, logits))
    if shop.judgements is not None:
        queries = shop.judgements.folds["ranker_valid"]
        texts, targets = stages.spelled(shop.query_texts(queries)), relevant_rows(*shop.judged(queries))
        hits = query_shortlists(stages, texts, stages.user.queries(texts))
        found.append(ToldLists("search", stages.query_user_texts(texts), hits, targets, Logits(stages)))
    return found


def _of_shortlists(stages: Stages, step: Step, given: ToldLists) -> tuple[Blend, PlattScaling | None]:
    """A step's blend for one task, and how well its probabilities hold.

    The weights are fitted on shortlists that hold a target: only they tell one order from another. A slope and an
    offset, which change no order, are fitted on shortlists of all kinds, so that the sigmoid is the chance.
    """
    first = stages.depth or step.depth
    texts = np.array([bool(text) for text in given.texts], bool)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    told = needs_rerank(given.hits.head(first), given.targets) & texts
    ordering = _scored(stages, step, given, np.sort(shuffled[told[shuffled]][:LISTS]))
    blend = fit_blend(ordering.logits, ordering.retrieval, ordering.labels, ordering.indptr, ordering.parts)
    if blend == Blend():
        return blend, None
    every = _scored(stages, step, given, np.sort(shuffled[texts[shuffled]][:CALIBRATED]))
    if np.count_nonzero(every.labels) < MIN_LISTS:
        return blend, None
    blended = blend(every.logits, every.retrieval, every.parts)
    return blend.rescaled(*platt(blended, every.labels)), _calibration(blended, every)


def _calibration(blended: NDArray[np.float32], every: ScoredPairs) -> PlattScaling:
    """Reliability of each half of the lists by the line through the other half."""
    after = np.empty_like(blended)
    for odd in (0, 1):
        slope, offset = platt(blended[every.half(1 - odd)], every.labels[every.half(1 - odd)])
        after[every.half(odd)] = slope * blended[every.half(odd)] + offset
    before, then = (reliability(sigmoid(logits), every.labels) for logits in (blended, after))
    return PlattScaling(before, then)


def _scored(stages: Stages, step: Step, given: ToldLists, lines: NDArray[np.int64]) -> ScoredPairs:
    """The heads of some shortlists as the steps before give them to a step."""
    first, what = stages.depth or step.depth, f"blend: {given.name}"
    asked, hits = [given.texts[i] for i in lines.tolist()], given.hits.select(lines).head(first)
    found = stages.rerank(asked, hits, given.name, logits_of=given.logits.told(lines, asked, what))
    heads = found.hits.head(step.depth)
    at = found.places[:, : heads.rows.shape[1]]
    scores = np.take_along_axis(hits.scores, at, axis=1)
    of_step = given.logits.of(step, lines, asked, heads, what)
    kept = np.isfinite(of_step)
    labels = members(heads.rows, given.targets.select(lines))[kept].astype(np.float32)
    several = hits.parts if len(hits.parts) > 1 else {}  # of one alone retrieval's score is a multiple
    parts = {name: np.take_along_axis(part, at, axis=1)[kept] for name, part in several.items()}
    return ScoredPairs(of_step[kept], scores[kept], labels, np.concatenate(([0], np.cumsum(kept.sum(axis=1)))), parts)


def _of_grades(stages: Stages, shop: Shop) -> Blend:
    """How good one item is for one query: fitted on the pairs judged for queries of ranker_valid, beside the towers'
    inner product alone, for words tell little among items that all of them share."""
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    queries = np.random.default_rng(0).permutation(shop.judgements.folds["ranker_valid"])
    sizes = np.diff(shop.judged(queries)[0].indptr)
    queries = queries[np.cumsum(sizes) <= PAIRS]
    judged, grades = shop.judged(queries)
    texts = stages.spelled(shop.query_texts(queries))
    labels = GradeScale.of(shop.data.judgements.grade).label(grades)
    retrieval = stages.retriever.tower_scores(stages.user.queries(texts), judged)
    logits = stages.pair_logits(stages.query_user_texts(texts), judged)
    return fit_blend(logits, retrieval, labels, judged.indptr)
