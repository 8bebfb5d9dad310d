"""What each way of reranking costs in milliseconds, and how much of the full model's lift it keeps: one table."""

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

KEPT = (10, 25)  # places that the full model orders in the cascades of the table
HEADS = (20, 30, 50)  # places that are read where retrieval's order alone drops the others
LISTS = 500  # shortlists whose order is measured
TIMED = 30  # of them, one request each

Reranks: TypeAlias = Callable[[str, Hits], object]  # what is timed: a user's text, and the shortlist of one request


class Way(NamedTuple):
    """A way of reranking, by the name that the table has for it."""

    name: str
    steps: tuple[RecordedStep, ...]


class Lists(NamedTuple):
    """Requests of one task whose outcome is known, with what retrieval gives them; `owner` names each one's user."""

    task: TaskName
    texts: list[str]
    hits: Hits
    targets: CSR
    owner: NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """One way: its milliseconds for each timed request, its lift of nDCG@10 after the blend as the gate judges it, the
    share of the first way's lift (nan where that one lifts nothing), and how many times faster than
    `CrossEncoder.predict` it is, the median over requests (nan where that was not timed)."""

    name: str
    milliseconds: tuple[float, ...]
    lift: GateVerdict
    kept: float
    faster: float = float("nan")


def ways(
    folder: Path,
    *,
    depth: int = SHORTLIST,
    kept: Sequence[int] = KEPT,
    heads: Sequence[int] = HEADS,
    device: str = "auto",
) -> list[Way]:
    """The ways that a ranker's folder and the device allow, the full model in float32 first: each model over the first
    `depth` places and over fewer (`heads`), the full model for what the shallow one has `kept`, and either for what
    late interaction has."""
    models = {FULL: _kinds(folder, device)}
    if (folder / SHALLOW).is_dir():
        models[SHALLOW] = _kinds(folder / SHALLOW, device)
    found = list[Way]()
    for model, kinds in models.items():
        for kind in kinds:
            first = RecordedStep(model, depth, precision=kind)
            found.append(Way(f"{model} {kind}", (first,)))
            found += [Way(f"{model} {kind}, first {k}", (first._replace(depth=k),)) for k in heads if k < depth]
            if model == SHALLOW and kind in models[FULL]:
                then = [(k, RecordedStep(FULL, k, precision=kind)) for k in kept]
                found += [Way(f"cascade to {k} {kind}", (first, step)) for k, step in then]
    if (folder / LATE).is_dir():
        late = RecordedStep(LATE, depth)
        found.append(Way(LATE, (late,)))
        for model, kind in [(model, kind) for model, kinds in models.items() for kind in kinds]:
            found += [Way(f"late, {k} by {model} {kind}", (late, RecordedStep(model, k, precision=kind))) for k in kept]
    return found


def _kinds(model: Path, device: str) -> list[str]:
    """The precisions in which a model's folder can be run there."""
    where = pick_device(device)
    halves, whole = resolve_precision("bf16", where) == "bf16", where == "cpu" and holds_int8(model)
    return ["fp32", *(["bf16"] if halves else []), *(["int8"] if whole else [])]


def chosen(found: Sequence[Way], words: Sequence[str]) -> list[Way]:
    """The first way, which the others are measured against, and those whose name holds one of the words; all where
    there are no words."""
    return [
        way for number, way in enumerate(found) if not number or not words or any(word in way.name for word in words)
    ]


def search_lists(stages: Stages, shop: Shop, fold: str, *, most: int = LISTS) -> Lists:
    """Judged queries of a fold; relevant is the highest grade present."""
    assert shop.judgements is not None
    queries = shop.judgements.folds[fold]
    queries = queries[rerank_sample(len(queries), most)]
    texts = stages.spelled(shop.query_texts(queries))
    hits = query_shortlists(stages, texts, stages.user.queries(texts))
    asked = stages.query_user_texts(texts)
    return Lists("search", asked, hits, relevant_rows(*shop.judged(queries)), queries.astype(np.int64))


def recommend_lists(stages: Stages, shop: Shop, fold: str, *, remove_seen: bool, most: int = LISTS) -> Lists:
    """Requests of a fold of events."""
    assert shop.events is not None
    assert shop.data.events is not None
    requests = shop.events.folds[fold]
    requests = requests.select(rerank_sample(len(requests), most))
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    hits, targets = offline.told(requests, remove_seen=remove_seen)
    return Lists("recommend", offline.user_texts(requests), hits, targets, requests.user.astype(np.int64))


def opened_ways(
    bundle: Bundle,
    release: Release,
    stages: Stages,
    shop: Shop,
    wanted: Sequence[Way],
    *,
    remove_seen: bool,
    device: str = "auto",
    most: int | None = None,
    say: Callable[[str], None] = print,
) -> list[Stages]:
    """The stages of every way, each with blends of its own, fitted on ranker_valid, the first `most` requests of each
    order or all. A model that several ways need is opened once, and reads no pair twice. `stages` are the release's;
    their own steps do not count."""
    given = [one.first(most) for one in valid_shortlists(stages, shop, remove_seen=remove_seen)]
    found = list[Stages]()
    for way in wanted:
        recorded = replace(release, settings=with_steps(release.settings, way.steps))
        like = [step for one in found for step in one.steps]
        steps = open_steps(bundle, recorded, stages.version, device=device, like=like)
        say(f"{way.name}: {', then '.join(f'{step.model} model, {step.scorer.placement}' for step in steps)}")
        found.append(replace(stages, steps=fitted_on(given, replace(stages, steps=steps), say=say).steps))
    return found


def share_kept(lift: float, whole: float) -> float:
    """The share that a lift is of the whole one; nan where that lifts nothing, so that there is nothing to keep.

    >>> share_kept(0.01, 0.02), share_kept(-0.01, -0.02)
    (0.5, nan)
    """
    return lift / whole if whole > 0 else math.nan


def frontier(
    ways: Sequence[Way],
    opened: Sequence[Stages],
    lists: Lists,
    *,
    theirs: Reranks | None = None,
    timed: int = TIMED,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Point]:
    """Every way, with its `opened_ways`, on the same lists; timed in turn, request by request, and with `theirs`."""
    known = Logits(opened[0])
    lifts = [lift(stages, lists, known) for stages in opened]
    work: list[Reranks] = [partial(_reranked, stages, lists.task) for stages in opened]
    spent = np.array(_timed([*work, *([theirs] if theirs else [])], lists, timed, clock))
    faster = np.median(spent[-1] / spent, axis=1) if theirs and spent.size else np.full(len(spent), np.nan)
    return [
        Point(way.name, tuple(milliseconds), found, share_kept(found.mean, lifts[0].mean), times)
        for way, milliseconds, found, times in zip(ways, spent.tolist(), lifts, faster.tolist(), strict=False)
    ]


def predicting(folder: Path, item_texts: Sequence[str], depth: int, device: str) -> Reranks:
    """`CrossEncoder.predict` of sentence-transformers as its documentation has it, on as many places."""
    predict = documented_logits(folder, device)

    def rerank(text: str, hits: Hits) -> object:
        rows = hits.rows[0, :depth]
        return predict([(text, item_texts[row]) for row in rows[rows >= 0].tolist()])

    return rerank


def lift(stages: Stages, lists: Lists, known: Logits) -> GateVerdict:
    """nDCG@10 of the lists reranked, against the order given; `known` are logits of these lists."""
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
    with ONE_BLAS_THREAD:  # as a request has it
        return stages.rerank([text], hits, task)


def _timed(work: Sequence[Reranks], lists: Lists, timed: int, clock: Callable[[], float]) -> list[list[float]]:
    """Milliseconds of each kind of work for one request after the other; another kind begins with each."""
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
