"""Quality by stage, with intervals, by slice, beyond accuracy, in money, and where the missed targets were lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.funnel import Funnel
from benchmarks.results import SAMPLES, Line
from benchmarks.tasks import event_side, event_slices, groups_of, item_slices, prices_of, training_counts
from indexing.exact import ExactIndex
from ranking.gate import gate
from retrieval import beyond, metrics
from retrieval.baselines import histories, targets_of
from retrieval.metrics import Ranked, Values
from retrieval.topk import CSR, Hits
from serving.evaluate import MIN_SLICE, Task, given_stage
from serving.measure import Measurement
from serving.offline import Offline, query_shortlists
from serving.shop import Shop
from serving.stages import Stages

MEASURES = {"recall": metrics.recall_at, "ndcg": metrics.ndcg_at, "mrr": metrics.mrr_at}
CUTS = {"recall": (1, 5, 10, 20, 50, 100), "ndcg": (10, 100), "mrr": (10,)}
KEPT = ("ndcg@10", "recall@100")  # whose value of every request is kept, so that two runs can be compared
SLICED = ("recall@10", "recall@100", "ndcg@10")
ANSWERED = 10  # items of an answer


@dataclass(frozen=True)
class Quality:
    """Ranked lists of a shop's test requests, to be told in lines."""

    shop: Shop
    tasks: Mapping[str, Task]
    resamples: int = 1_000

    def lines(self) -> Iterator[Line]:
        """Every task: stages, slices, and what is beyond accuracy."""
        for name, task in self.tasks.items():
            for stage, ranked, part in ranked_stages(task):
                yield from self._stage({"task": name, "stage": stage}, ranked, part)
            yield from self._slices(name, task)

    def _stage(self, labels: Mapping[str, str], ranked: Ranked, task: Task) -> Iterator[Line]:
        for measure, cuts in CUTS.items():
            for k in cuts:
                values = MEASURES[measure](ranked, task.targets, k)
                yield self._quality({**labels, "metric": f"{measure}@{k}"}, values, task.users)
        values = self._worth(task.targets)
        if np.isfinite(values).any():
            about = {**labels, "metric": f"value_recall@{ANSWERED}"}
            yield self._quality(about, beyond.value_recall_at(ranked, task.targets, values, ANSWERED), task.users)
            whole = beyond.revenue_at(ranked, task.targets, values, ANSWERED)
            yield _figure({**labels, "figure": f"revenue@{ANSWERED}"}, whole)
        if isinstance(ranked, Hits):
            for name, value in self._beyond(ranked, task, recommends=labels["task"] != "search"):
                yield _figure({**labels, "figure": name}, value)

    def _quality(self, labels: Mapping[str, str], values: Values, users: NDArray[np.integer] | None) -> Line:
        """The mean over requests that have something to find, its 95 % interval by a bootstrap over users."""
        known = ~np.isnan(values)
        own = None if users is None else users[known]
        spread = gate(np.zeros(int(known.sum())), values[known], users=own, resamples=self.resamples)
        summary = {"mean": spread.mean, "low": spread.low, "high": spread.high, "n": float(spread.n)}
        samples = values[known][:SAMPLES].round(4).tolist() if labels["metric"] in KEPT else []
        return Line(measured="quality", labels=labels, unit="share", summary=summary, samples=samples)

    def _beyond(self, hits: Hits, task: Task, *, recommends: bool) -> Iterator[tuple[str, float | None]]:
        items, k = self.shop.data.items, ANSWERED
        if task.counts is not None:
            yield f"coverage@{k}", metrics.coverage_at(hits, len(task.counts), k)
            yield f"novelty@{k}", metrics.novelty_at(hits, task.counts, k)
            yield f"popularity_bias@{k}", metrics.popularity_bias_at(hits, task.counts, k)
        brands = groups_of(items, "brand")
        if brands is not None and task.counts is not None:
            wanted = np.bincount(brands[brands >= 0], task.counts[brands >= 0])
            if wanted.any():
                gap = beyond.exposure_gap(beyond.exposure_at(hits, brands, k), wanted / wanted.sum())
                yield f"brand_gap@{k}", gap
        categories = groups_of(items, "category")
        if categories is not None and recommends and len(hits.rows) == len(self._history.indptr) - 1:
            yield f"calibration@{k}", _mean(beyond.calibration_at(hits, self._history, categories, k))

    def _slices(self, name: str, task: Task) -> Iterator[Line]:
        for part, kept in self._parts(name, task).items():
            targets = task.targets.where(kept)
            n = int(np.count_nonzero(np.diff(targets.indptr)))
            if n < MIN_SLICE:
                continue
            for stage, ranked in task.stages.items():
                places = metrics.places_in(ranked, task.targets) if isinstance(ranked, Hits) else ranked
                own = metrics.Places(places.above[kept], places.tied[kept])
                summary = {metric: _mean(_measure(metric, own, targets)) for metric in SLICED}
                labels = {"task": name, "slice": part, "stage": stage}
                yield Line(measured="slice", labels=labels, unit="share", summary={**summary, "n": float(n)})

    def _parts(self, name: str, task: Task) -> dict[str, NDArray[np.bool_]]:
        parts = dict(task.slices)
        if name == "search":
            return parts
        events, split = event_side(self.shop)
        parts |= item_slices(self.shop.data.items, training_counts(self.shop), task.targets)
        return parts | event_slices(events, split.folds["test"], task.targets)

    def _worth(self, targets: CSR) -> Values:
        return prices_of(self.shop.data.items)[targets.rows]

    @property
    def _history(self) -> CSR:
        events, split = event_side(self.shop)
        return histories(events, split.folds["test"])


def ranked_stages(task: Task) -> Iterator[tuple[str, Ranked, Task]]:
    """Each stage with the task cut to the requests that it was run for."""
    for name, ranked in task.stages.items():
        yield name, ranked, task
    if task.sampled:
        sample = np.arange(task.targets.n_lists) if task.sample is None else task.sample
        users = None if task.users is None else task.users[sample]
        part = replace(task, targets=task.targets.select(sample), users=users)
        for name, hits in task.sampled.items():
            yield name, metrics.settled(hits), part


def diversity_lines(tasks: Mapping[str, Task], stages: Stages) -> Iterator[Line]:
    """How unlike each other the answered items are, in the item tower's own space."""
    vectors = stages.version.vectors_at(np.arange(stages.version.size))
    for name, task in tasks.items():
        for stage, ranked, _ in ranked_stages(task):
            if isinstance(ranked, Hits):
                values = beyond.diversity_at(ranked, vectors, ANSWERED)
                yield _figure({"task": name, "stage": stage, "figure": f"diversity@{ANSWERED}"}, _mean(values))


def funnel_lines(measured: Measurement, tasks: Mapping[str, Task]) -> Iterator[Line]:
    """Where the targets of each task that are not answered were lost, over the requests that reranking was run for."""
    for name, task in tasks.items():
        final = task.sampled.get("final")
        given = task.stages[given_stage(task.stages)]
        if final is None or not isinstance(given, Hits):
            continue
        sample = np.arange(task.targets.n_lists) if task.sample is None else task.sample
        wanted, removed = _asked(measured.shop, name, task)
        exact = _exact_lists(measured, name, removed, given)
        funnel = Funnel(
            targets=wanted.select(sample), n_items=measured.stages.version.size, removed=removed.select(sample),
            exact=exact.select(sample), given=given.select(sample), answered=final, k=ANSWERED,
        )  # fmt: skip
        counts = {step: float(count) for step, count in funnel.counts().items()}
        yield Line(measured="funnel", labels={"task": name, "k": str(ANSWERED)}, unit="figure", summary=counts)


def _asked(shop: Shop, name: str, task: Task) -> tuple[CSR, CSR]:
    """All targets of a task's requests, and what is removed from each."""
    nothing = CSR.from_lists([[]] * task.targets.n_lists)
    if name == "search":
        return task.targets, nothing
    events, split = event_side(shop)
    requests = split.folds["test"]
    removed = histories(events, requests, split.target_events) if name == "seen_removed" else nothing
    return targets_of(requests), removed


def _exact_lists(measured: Measurement, name: str, removed: CSR, given: Hits) -> Hits:
    """The candidates of the same requests with an exact index in place of the one in use."""
    stages, shop, k = measured.stages, measured.shop, given.rows.shape[1]
    if stages.version.index.is_exact:
        return given
    version = replace(stages.version, index=ExactIndex(stages.version.vectors))
    exact = replace(stages, retriever=replace(stages.retriever, version=version))
    if name == "search":
        assert shop.judgements is not None
        texts = exact.spelled(shop.query_texts(shop.judgements.folds["test"]))
        return query_shortlists(exact, texts, exact.user.queries(texts), k)
    events, split = event_side(shop)
    offline = Offline.of(exact, events, split.target_events)
    return offline.shortlists(split.folds["test"], removed if name == "seen_removed" else None, k)


def _measure(metric: str, ranked: Ranked, targets: CSR) -> Values:
    name, _, k = metric.partition("@")
    return MEASURES[name](ranked, targets, int(k))


def _figure(labels: Mapping[str, str], value: float | None) -> Line:
    known = None if value is None or np.isnan(value) else value
    return Line(measured="beyond accuracy", labels=labels, unit="figure", summary={"value": known})


def _mean(values: Values) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
