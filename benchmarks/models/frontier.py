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
from numpy.typing import NDArray

from benchmarks.models.throughput import documented_logits
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from ranking.ordering.gate import GateVerdict, gate
from ranking.training.settings import FULL, LATE, SHALLOW
from retrieval.encoders.blas_threads import ONE_BLAS_THREAD
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import pick_device, resolve_precision
from retrieval.metrics.ranking import ndcg_at
from retrieval.topk import CSR, Hits
from serving.answering.rerank_steps import RecordedStep, open_steps, with_steps
from serving.answering.retriever import TaskName
from serving.answering.stages import SHORTLIST, Stages
from serving.evaluation.batch_requests import Logits, Offline, query_shortlists
from serving.evaluation.figures import needs_rerank, relevant_rows, rerank_sample
from serving.fitting.fit_blend import fitted_on, valid_shortlists
from serving.shop import Shop

SECOND_DEPTHS = (10, 25)  # candidates that the second stage of a cascade reranks
FIRST_DEPTHS = (20, 30, 50)  # candidates that a single stage reranks, beside the whole depth
REQUESTS = 500  # whose order is measured
TIMED_REQUESTS = 30  # of them, one at a time

Reranker: TypeAlias = Callable[[str, Hits], object]  # of the user text and the shortlist of one request


class Strategy(NamedTuple):
    """A strategy of reranking: its name and its stages."""

    name: str
    steps: tuple[RecordedStep, ...]


class Shortlists(NamedTuple):
    """Labelled requests of one task: user texts, retrieved candidates, relevant items, and the user of each
    (`owner`)."""

    task: TaskName
    texts: list[str]
    hits: Hits
    targets: CSR
    owner: NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """The measurement of one strategy.

    milliseconds: of each timed request. lift: gain in nDCG@10 after the blend, as the gate measures it. share: its part
    of the first strategy's lift, nan where that is not positive. faster: how many times faster than
    `CrossEncoder.predict` it is, the median over requests, nan where that was not timed.
    """

    name: str
    milliseconds: tuple[float, ...]
    lift: GateVerdict
    share: float
    faster: float = float("nan")


def strategies(
    folder: Path,
    *,
    depth: int = SHORTLIST,
    second_depths: Sequence[int] = SECOND_DEPTHS,
    first_depths: Sequence[int] = FIRST_DEPTHS,
    device: str = "auto",
) -> list[Strategy]:
    """The strategies that a ranker's folder and the device allow, the full model in float32 first.

    Each model alone reranks `depth` candidates, or fewer (`first_depths`). In a cascade the full model reranks the
    first `second_depths` of the shallow one's order, or either model those of late interaction.
    """
    models = {FULL: _precisions(folder, device)}
    if (folder / SHALLOW).is_dir():
        models[SHALLOW] = _precisions(folder / SHALLOW, device)
    found = list[Strategy]()
    for model, kinds in models.items():
        for kind in kinds:
            first = RecordedStep(model, depth, precision=kind)
            found.append(Strategy(f"{model} {kind}", (first,)))
            found += [
                Strategy(f"{model} {kind}, first {k}", (first._replace(depth=k),)) for k in first_depths if k < depth
            ]
            if model == SHALLOW and kind in models[FULL]:
                then = [(k, RecordedStep(FULL, k, precision=kind)) for k in second_depths]
                found += [Strategy(f"cascade to {k} {kind}", (first, step)) for k, step in then]
    if (folder / LATE).is_dir():
        late = RecordedStep(LATE, depth)
        found.append(Strategy(LATE, (late,)))
        for model, kind in [(model, kind) for model, kinds in models.items() for kind in kinds]:
            found += [
                Strategy(f"late, {k} by {model} {kind}", (late, RecordedStep(model, k, precision=kind)))
                for k in second_depths
            ]
    return found


def _precisions(model: Path, device: str) -> list[str]:
    """The precisions in which a model's folder can run on the device."""
    where = pick_device(device)
    halves, whole = resolve_precision("bf16", where) == "bf16", where == "cpu" and holds_int8(model)
    return ["fp32", *(["bf16"] if halves else []), *(["int8"] if whole else [])]


def select_strategies(found: Sequence[Strategy], words: Sequence[str]) -> list[Strategy]:
    """The first strategy, which the others are compared with, and those whose name contains one of the words; all
    without words."""
    return [
        way for number, way in enumerate(found) if not number or not words or any(word in way.name for word in words)
    ]


def search_shortlists(stages: Stages, shop: Shop, fold: str, *, most: int = REQUESTS) -> Shortlists:
    """At most `most` judged queries of a fold; the items with a query's highest grade are relevant."""
    assert shop.judgements is not None
    queries = shop.judgements.folds[fold]
    queries = queries[rerank_sample(len(queries), most)]
    texts = stages.spelled(shop.query_texts(queries))
    hits = query_shortlists(stages, texts, stages.user.queries(texts))
    asked = stages.query_user_texts(texts)
    return Shortlists("search", asked, hits, relevant_rows(*shop.judged(queries)), queries.astype(np.int64))


def recommend_shortlists(
    stages: Stages, shop: Shop, fold: str, *, remove_seen: bool, most: int = REQUESTS
) -> Shortlists:
    """At most `most` requests of a fold of events."""
    assert shop.events is not None
    assert shop.data.events is not None
    requests = shop.events.folds[fold]
    requests = requests.select(rerank_sample(len(requests), most))
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    hits, targets = offline.told(requests, remove_seen=remove_seen)
    return Shortlists("recommend", offline.user_texts(requests), hits, targets, requests.user.astype(np.int64))


def open_strategies(
    bundle: Bundle,
    release: Release,
    stages: Stages,
    shop: Shop,
    wanted: Sequence[Strategy],
    *,
    remove_seen: bool,
    device: str = "auto",
    most: int | None = None,
    say: Callable[[str], None] = print,
) -> list[Stages]:
    """The release's stages with the rerank steps of every strategy in place of its own, each with blends of its own,
    fitted on ranker_valid (at most `most` requests of each order). A model that several strategies share is opened once
    and scores no pair twice."""
    given = [one.first(most) for one in valid_shortlists(stages, shop, remove_seen=remove_seen)]
    found = list[Stages]()
    for way in wanted:
        recorded = replace(release, settings=with_steps(release.settings, way.steps))
        like = [step for one in found for step in one.steps]
        steps = open_steps(bundle, recorded, stages.version, device=device, like=like)
        say(f"{way.name}: {', then '.join(f'{step.model} model, {step.scorer.placement}' for step in steps)}")
        found.append(replace(stages, steps=fitted_on(given, replace(stages, steps=steps), say=say).steps))
    return found


def share_of_full_lift(lift: float, whole: float) -> float:
    """The share of a lift of the full model's; nan where the full model's is not positive.

    >>> share_of_full_lift(0.01, 0.02), share_of_full_lift(-0.01, -0.02)
    (0.5, nan)
    """
    return lift / whole if whole > 0 else math.nan


def measure_strategies(
    strategies: Sequence[Strategy],
    opened: Sequence[Stages],
    lists: Shortlists,
    *,
    reference: Reranker | None = None,
    timed: int = TIMED_REQUESTS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Point]:
    """The points of all strategies (`opened` by `open_strategies`) on the same shortlists. All of them, and
    `reference`, are timed in turn, request by request."""
    known = Logits(opened[0])
    lifts = [lift(stages, lists, known) for stages in opened]
    work: list[Reranker] = [partial(_reranked, stages, lists.task) for stages in opened]
    spent = np.array(_timed([*work, *([reference] if reference else [])], lists, timed, clock))
    faster = np.median(spent[-1] / spent, axis=1) if reference and spent.size else np.full(len(spent), np.nan)
    return [
        Point(way.name, tuple(milliseconds), found, share_of_full_lift(found.mean, lifts[0].mean), times)
        for way, milliseconds, found, times in zip(strategies, spent.tolist(), lifts, faster.tolist(), strict=False)
    ]


def reference_reranker(folder: Path, item_texts: Sequence[str], depth: int, device: str) -> Reranker:
    """`CrossEncoder.predict` of sentence-transformers, as documented, on the first `depth` candidates."""
    predict = documented_logits(folder, device)

    def rerank(text: str, hits: Hits) -> object:
        rows = hits.rows[0, :depth]
        return predict([(text, item_texts[row]) for row in rows[rows >= 0].tolist()])

    return rerank


def lift(stages: Stages, lists: Shortlists, known: Logits) -> GateVerdict:
    """The change of nDCG@10 by reranking the lists; `known` holds the logits of their pairs."""
    which = np.flatnonzero(needs_rerank(lists.hits.head(stages.depth), lists.targets))
    texts, given, targets = [lists.texts[i] for i in which.tolist()], lists.hits.select(which), lists.targets
    told = known.told(which, texts, f"lift: {lists.task}")
    after = ndcg_at(stages.rerank(texts, given, lists.task, logits_of=told).hits, targets.select(which), 10)
    before = ndcg_at(lists.hits, targets, 10)
    moved = before.copy()
    moved[which] = after
    counted = ~np.isnan(before)
    return gate(before[counted], moved[counted], users=lists.owner[counted])


def _reranked(stages: Stages, task: TaskName, text: str, hits: Hits) -> object:
    with ONE_BLAS_THREAD:  # as in a request of the engine
        return stages.rerank([text], hits, task)


def _timed(work: Sequence[Reranker], lists: Shortlists, timed: int, clock: Callable[[], float]) -> list[list[float]]:
    """Milliseconds of each reranker by request; another one begins with each request."""
    spent: list[list[float]] = [[] for _ in work]
    requests = [line for line, text in enumerate(lists.texts) if text][:timed]
    for number, line in enumerate(requests):
        alone = lists.hits.select(np.array([line]))
        for turn in range(len(work)):
            at = (turn + number) % len(work)
            begun = clock()
            work[at](lists.texts[line], alone)
            spent[at].append(1_000 * (clock() - begun))
    return spent
