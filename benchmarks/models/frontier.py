"""The latency of each strategy of reranking against its gain in nDCG, as a share of the full model's gain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.models.throughput import documented_logits
from indexing.bundle.bundle import Bundle
from ranking.ordering.gate import GateVerdict, gate
from ranking.strategies import FULL, LATE, SHALLOW
from retrieval.encoders.blas_threads import ONE_BLAS_THREAD
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import RuntimeOptions, pick_device, resolve_precision
from retrieval.metrics.ranking import ndcg_at, without_ties
from serving.internals import (
    EVERY_GATE,
    SHORTLIST,
    Batch,
    KnownLogits,
    LabelledRequests,
    LabelledShortlists,
    ReleaseState,
    Shop,
    StepSettings,
    fitted_on,
    open_steps,
    rank,
    ranked,
    run,
    valid_shortlists,
    with_settings,
    with_texts,
)

SECOND_DEPTHS = (10, 25)  # candidates that the second stage of a cascade reranks
FIRST_DEPTHS = (20, 30, 50)  # candidates that a single stage reranks, beside the whole depth
REQUESTS = 500  # whose order is measured
TIMED_REQUESTS = 30  # of them, one at a time

Reranker: TypeAlias = Callable[[Batch], object]  # what is timed: one retrieved request


class StrategyVariant(NamedTuple):
    """A strategy of reranking: its name and its stages."""

    name: str
    steps: tuple[StepSettings, ...]


@dataclass(frozen=True)
class Point:
    """The measurement of one strategy.

    milliseconds: of each timed request. lift: what the logits add in nDCG@10 to the weights that were fitted without
    them, step 2 of the gate. reweighed: what those weights alone change of the order that was given. share: the lift as
    a part of the first strategy's, nan where that is not positive. faster: how many times faster than
    `CrossEncoder.predict` it is, the median over requests, nan where that was not timed.
    """

    name: str
    milliseconds: tuple[float, ...]
    lift: GateVerdict
    reweighed: GateVerdict
    share: float
    faster: float = float("nan")


def strategies(
    folder: Path,
    *,
    depth: int = SHORTLIST,
    second_depths: Sequence[int] = SECOND_DEPTHS,
    first_depths: Sequence[int] = FIRST_DEPTHS,
    device: str = "auto",
) -> list[StrategyVariant]:
    """The strategies that a ranker's folder and the device allow, the full model in float32 first.

    Each model alone reranks `depth` candidates, or fewer (`first_depths`). In a cascade the full model reranks the
    first `second_depths` of the shallow one's order, or either model those of late interaction.
    """
    models = {FULL: _precisions(folder, device)}
    if (folder / SHALLOW).is_dir():
        models[SHALLOW] = _precisions(folder / SHALLOW, device)
    found = list[StrategyVariant]()
    for model, kinds in models.items():
        for kind in kinds:
            found.append(_variant(f"{model} {kind}", (model, depth, kind)))
            found += [_variant(f"{model} {kind}, first {k}", (model, k, kind)) for k in first_depths if k < depth]
            if model == SHALLOW and kind in models[FULL]:
                found += [
                    _variant(f"cascade to {k} {kind}", (model, depth, kind), (FULL, k, kind)) for k in second_depths
                ]
    if (folder / LATE).is_dir():
        late = (LATE, depth, "auto")
        found.append(_variant(LATE, late))
        for model, kind in [(model, kind) for model, kinds in models.items() for kind in kinds]:
            found += [_variant(f"late, {k} by {model} {kind}", late, (model, k, kind)) for k in second_depths]
    return found


def _variant(name: str, *steps: tuple[str, int, str]) -> StrategyVariant:
    """A variant by the model, depth and precision of each step."""
    return StrategyVariant(
        name,
        tuple(StepSettings(model=model, depth=depth, precision=precision) for model, depth, precision in steps),
    )


def _precisions(model: Path, device: str) -> list[str]:
    """The precisions in which a model's folder can run on the device."""
    where = pick_device(device)
    halves, whole = resolve_precision("bf16", where) == "bf16", where == "cpu" and holds_int8(model)
    return ["fp32", *(["bf16"] if halves else []), *(["int8"] if whole else [])]


def select_strategies(found: Sequence[StrategyVariant], words: Sequence[str]) -> list[StrategyVariant]:
    """The first strategy, which the others are compared with, and those whose name contains one of the words; all
    without words."""
    return [
        variant
        for number, variant in enumerate(found)
        if not number or not words or any(word in variant.name for word in words)
    ]


def labelled_lists(state: ReleaseState, shop: Shop, fold: str, *, most: int = REQUESTS) -> list[LabelledShortlists]:
    """At most `most` labelled shortlists of a fold for each gate that the data set has requests of, with the texts that
    the cross-encoder reads."""
    requests, found = LabelledRequests(state, shop), []
    if shop.events is not None:
        found.append(requests.recommendations(fold, most=most))
    if shop.judgements is not None:
        found.append(requests.searches(fold, most=most))
    return [replace(one, batch=with_texts(state, one.batch)) for one in found]


def open_strategies(
    bundle: Bundle,
    state: ReleaseState,
    shop: Shop,
    wanted: Sequence[StrategyVariant],
    *,
    device: str = "auto",
    most: int | None = None,
    say: Callable[[str], None] = print,
) -> list[ReleaseState]:
    """The release with the rerank steps of every strategy in place of its own, each with blends and controls of its
    own, fitted on ranker_valid (the first `most` requests of each order). A model that several strategies share is
    opened once and scores no pair twice."""
    shortlists = [one.first(most) for one in valid_shortlists(state, shop)]
    found = list[ReleaseState]()
    for variant in wanted:
        recorded = with_settings(state.release, rerank=variant.steps)
        like = [step for one in found for step in one.steps]
        steps = open_steps(bundle, recorded, state.version, RuntimeOptions(device=device), like=like)
        say(f"{variant.name}: {', then '.join(f'{step.model} model, {step.scorer.placement}' for step in steps)}")
        found.append(replace(state, steps=fitted_on(shortlists, replace(state, steps=steps), say=say).steps))
    return found


def share_of_full_lift(lift: float, whole: float) -> float:
    """The share of a lift of the full model's; nan where the full model's is not positive.

    >>> share_of_full_lift(0.01, 0.02), share_of_full_lift(-0.01, -0.02)
    (0.5, nan)
    """
    return lift / whole if whole > 0 else math.nan


def measure_strategies(
    strategies: Sequence[StrategyVariant],
    opened: Sequence[ReleaseState],
    shortlists: LabelledShortlists,
    *,
    reference: Reranker | None = None,
    timed: int = TIMED_REQUESTS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Point]:
    """The points of all strategies (`opened` by `open_strategies`) on the same shortlists. All of them, and
    `reference`, are timed in turn, request by request."""
    known = KnownLogits(opened[0])
    lifts, reweighed = zip(*(lift(state, shortlists, known) for state in opened), strict=True)
    work: list[Reranker] = [partial(_reranked, state) for state in opened]
    spent = np.array(_timed([*work, *([reference] if reference else [])], shortlists.batch, timed, clock))
    faster = np.median(spent[-1] / spent, axis=1) if reference and spent.size else np.full(len(spent), np.nan)
    return [
        Point(variant.name, tuple(milliseconds), own, weights, share_of_full_lift(own.mean, lifts[0].mean), times)
        for variant, milliseconds, own, weights, times in zip(
            strategies, spent.tolist(), lifts, reweighed, faster.tolist(), strict=False
        )
    ]


def reference_reranker(folder: Path, item_texts: Sequence[str], depth: int, device: str) -> Reranker:
    """`CrossEncoder.predict` of sentence-transformers, as documented, on the first `depth` candidates."""
    predict = documented_logits(folder, device)

    def rerank(batch: Batch) -> object:
        rows = batch.candidates.hits.rows[0, :depth]
        (text,) = batch.ranker_texts or ("",)
        return predict([(text, item_texts[row]) for row in rows[rows >= 0].tolist()])

    return rerank


def lift(state: ReleaseState, shortlists: LabelledShortlists, known: KnownLogits) -> tuple[GateVerdict, GateVerdict]:
    """The change of nDCG@10 by the logits of the steps, against the weights that were fitted without any, and that of
    those weights against the order that is given; `known` holds the logits of the pairs."""
    found = ranked(state, shortlists, f"lift: {shortlists.task.gate}", logits=known)
    orders = (without_ties(found.hits), found.reweighed, found.reranked)
    given, weighed, read = (ndcg_at(order, shortlists.targets, 10) for order in orders)
    counted = ~np.isnan(given)
    owner = shortlists.owner[counted]
    own = gate(weighed[counted], read[counted], users=owner)
    return own, gate(given[counted], weighed[counted], users=owner)


def _reranked(state: ReleaseState, batch: Batch) -> object:
    with ONE_BLAS_THREAD:  # as in a request of the engine
        return run(replace(state, reranks=EVERY_GATE), batch, since=rank, until=rank)


def _timed(work: Sequence[Reranker], batch: Batch, timed: int, clock: Callable[[], float]) -> list[list[float]]:
    """Milliseconds of each reranker by request; another one begins with each request."""
    spent: list[list[float]] = [[] for _ in work]
    requests = [line for line, text in enumerate(batch.ranker_texts or ()) if text][:timed]
    for number, line in enumerate(requests):
        alone = batch.select(np.array([line]))
        for turn in range(len(work)):
            at = (turn + number) % len(work)
            begun = clock()
            work[at](alone)
            spent[at].append(1_000 * (clock() - begun))
    return spent
