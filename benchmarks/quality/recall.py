"""Quality of every stage with intervals, by slice, in revenue, and where lost targets were lost.

Beside the standard metrics of ranking:

- `hit_rate@k`, a proxy for conversion: the share of requests with any target among the first k.
- `repeat_recall@10`, a proxy for repeat purchases: recall of the targets that the user had bought before (Li et al.,
  "A Next Basket Recommendation Reality Check", TOIS 2023), in the task that may answer items bought before.
- `value_recall@10`: the mean over requests of the share of their targets' value that was found. `revenue@10`: the share
  found of all targets' value. `revenue_per_request@10`: the value found per request, in the shop's currency. The value
  of a target is price times quantity of its event where it has them, else the price in the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.intervals import mean_intervals, owner_means
from benchmarks.quality.beyond_accuracy import ListFigures, figure_line
from benchmarks.quality.funnel import Funnel
from benchmarks.quality.parts import Part, parts_of
from benchmarks.quality.revenue import TargetEvents, prices_of
from benchmarks.quality.slices import event_slices, item_slices
from benchmarks.quality.tasks import ANSWERED, events_and_split, training_counts
from benchmarks.result_lines import MAX_USERS, Line
from indexing.ann.exact import ExactIndex
from retrieval.metrics import beyond_accuracy as beyond
from retrieval.metrics import ranking as metrics
from retrieval.metrics.baselines import histories, targets_of
from retrieval.metrics.ranking import Places, Values
from retrieval.topk import CSR, Hits, Mask
from serving.internals import MIN_SLICE, LabelledRequests, MeasuredTask, Measurement, Shop, given_stage

MEASURES = {
    "recall": metrics.recall_at, "ndcg": metrics.ndcg_at, "mrr": metrics.mrr_at, "hit_rate": metrics.hit_rate_at
}  # fmt: skip
CUTS = {"recall": (1, 5, 10, 20, 50, 100), "ndcg": (10, 100), "mrr": (10,), "hit_rate": (1, 10)}
UNSEEN = "seen_removed"
RECOMMENDED = (UNSEEN, "seen_kept")  # tasks over every request of the test fold
SAMPLED_METRICS = ("ndcg@10", "recall@100")  # whose value for every user is kept, so that two runs can be compared
NONE = (np.empty(0, np.int64), None)  # a final order
SLICED = ("recall@10", "recall@100", "ndcg@10")


@dataclass(frozen=True)
class Quality:
    """The ranked lists of a data set's test requests, by task and stage."""

    shop: Shop
    tasks: Mapping[str, MeasuredTask]
    resamples: int = 1_000

    def lines(self) -> Iterator[Line]:
        """Every task: the metrics of its stages, its slices, and the figures beyond accuracy."""
        yield from self.stages()
        for name, task in self.tasks.items():
            yield from self._slices(name, task)
            yield from ListFigures(self.shop).lines(name, task)

    def stages(self) -> Iterator[Line]:
        """The metrics of every stage of every task, over all requests that the stage was run for."""
        for name, task in self.tasks.items():
            worth = self._worth(name, task.targets)
            repeats = task.slices.get("repeats")
            for part in parts_of(task):
                for stage, places in part.stages.items():
                    yield from self._stage(
                        {"task": name, "stage": stage, **part.of}, places, part, worth[part.target_at], repeats
                    )

    def _stage(
        self, labels: Mapping[str, str], places: Places, part: Part, worth: Values, repeats: Mask | None
    ) -> Iterator[Line]:
        named = {f"{name}@{k}": _measure(f"{name}@{k}", places, part.targets) for name in CUTS for k in CUTS[name]}
        if repeats is not None:
            repeated = repeats[part.target_at]
            own = Places(places.above[repeated], places.tied[repeated])
            named[f"repeat_recall@{ANSWERED}"] = metrics.recall_at(own, part.targets.where(repeated), ANSWERED)
        if np.isfinite(worth).any():
            named[f"value_recall@{ANSWERED}"] = beyond.value_recall_at(places, part.targets, worth, ANSWERED)
            money = _value_found(places, part.targets, worth)
            value, low, high = (
                float(one[0]) for one in mean_intervals(money[:, None], part.users, resamples=self.resamples)
            )
            share = beyond.revenue_at(places, part.targets, worth, ANSWERED)
            yield figure_line({**labels, "figure": f"revenue@{ANSWERED}"}, share)
            yield figure_line({**labels, "figure": f"revenue_per_request@{ANSWERED}"}, value, low=low, high=high)
        every = mean_intervals(np.stack(list(named.values()), axis=1), part.users, resamples=self.resamples)
        for (metric, values), mean, low, high in zip(named.items(), *every, strict=True):
            n = float(np.count_nonzero(~np.isnan(values)))
            summary = {"mean": _figure(mean), "low": _figure(low), "high": _figure(high), "n": n}
            samples = owner_means(values, part.users)[:MAX_USERS].round(4).tolist() if metric in SAMPLED_METRICS else []
            about = {**labels, "metric": metric}
            yield Line(measured="quality", labels=about, unit="share", summary=summary, samples=samples)

    def _slices(self, name: str, task: MeasuredTask) -> Iterator[Line]:
        for slice_name, mask in self._masks(name, task).items():
            for part in parts_of(task):
                yield from self._slice({"task": name, "slice": slice_name, **part.of}, part.slice(mask))
        for variant, other in task.variants.items():
            for part in parts_of(other):
                yield from self._slice({"task": name, "slice": variant, **part.of}, part)

    def _slice(self, labels: Mapping[str, str], part: Part) -> Iterator[Line]:
        """Every stage of a part, unless too few of its requests have a target. All stages share their bootstrap
        samples."""
        n = int(np.count_nonzero(np.diff(part.targets.indptr)))
        if n < MIN_SLICE:
            return
        columns = [_measure(metric, places, part.targets) for places in part.stages.values() for metric in SLICED]
        every = np.array(mean_intervals(np.stack(columns, axis=1), part.users, resamples=self.resamples))
        for stage, figures in zip(part.stages, every.T.reshape(-1, len(SLICED), 3), strict=True):
            summary: dict[str, float | None] = {}
            for metric, (mean, low, high) in zip(SLICED, figures, strict=True):
                summary |= {metric: _figure(mean), f"{metric} low": _figure(low), f"{metric} high": _figure(high)}
            yield Line(
                measured="slice", labels={**labels, "stage": stage}, unit="share", summary={**summary, "n": float(n)}
            )

    def _masks(self, name: str, task: MeasuredTask) -> dict[str, Mask]:
        """The slices of a task's targets, bool [n_targets] by name."""
        counts = None if self.shop.events is None else training_counts(self.shop)
        found = {**task.slices, **item_slices(self.shop.data.items, counts, task.targets)}
        if name not in RECOMMENDED:
            return found
        events, split = events_and_split(self.shop)
        kinds = self._target_events(task.targets).kinds()
        return found | event_slices(events, split.folds["test"], task.targets, kinds)

    def _worth(self, name: str, targets: CSR) -> Values:
        """The value of each target in the shop's currency, float64 [n_targets]."""
        prices = prices_of(self.shop.data.items)
        if name not in RECOMMENDED:
            return prices[targets.rows]
        return self._target_events(targets).worth(prices, targets.rows)

    def _target_events(self, targets: CSR) -> TargetEvents:
        events, split = events_and_split(self.shop)
        return TargetEvents(events, split.folds["test"], split.target_events, targets)


def funnel_lines(measured: Measurement, tasks: Mapping[str, MeasuredTask]) -> Iterator[Line]:
    """At which step each task lost the targets that it did not answer, over the requests that were reranked."""
    for name, task in tasks.items():
        sample, final = next(((at, part.stages["final"]) for at, part in task.parts() if "final" in part.stages), NONE)
        retrieved = task.stages[given_stage(task.stages)]
        if name not in (*RECOMMENDED, "search") or not isinstance(final, Hits) or not isinstance(retrieved, Hits):
            continue
        targets, removed = _targets_and_removed(measured.shop, name, task)
        exact = _exact_lists(measured, name, retrieved)
        funnel = Funnel(
            targets=targets.select(sample), n_items=measured.state.version.size, removed=removed.select(sample),
            exact=exact.select(sample), retrieved=retrieved.select(sample), answered=final, k=ANSWERED,
        )  # fmt: skip
        counts = {step: float(count) for step, count in funnel.counts().items()}
        yield Line(measured="funnel", labels={"task": name, "k": str(ANSWERED)}, unit="figure", summary=counts)


def _targets_and_removed(shop: Shop, name: str, task: MeasuredTask) -> tuple[CSR, CSR]:
    """All targets of a task's requests, and the items that may not be answered to each."""
    nothing = CSR.from_lists([[]] * task.targets.n_lists)
    if name == "search":
        return task.targets, nothing
    events, split = events_and_split(shop)
    requests = split.folds["test"]
    removed = histories(events, requests, split.target_events) if name == UNSEEN else nothing
    return targets_of(requests), removed


def _exact_lists(measured: Measurement, name: str, retrieved: Hits) -> Hits:
    """The candidates of the same requests with exact search in place of the index."""
    state = measured.state
    if state.version.index.is_exact:
        return retrieved
    version = replace(state.version, index=ExactIndex(state.version.vectors))
    exact = replace(state, retriever=replace(state.retriever, version=version))
    requests = LabelledRequests(exact, measured.shop)
    found = requests.searches("test") if name == "search" else requests.recommendations("test", unseen=name == UNSEEN)
    return found.batch.candidates.hits


def _measure(metric: str, places: Places, targets: CSR) -> Values:
    name, _, k = metric.partition("@")
    return MEASURES[name](places, targets, int(k))


def _value_found(places: Places, targets: CSR, worth: Values) -> Values:
    """The value of each request's targets among the answered items, float64 [n]; nan for a request without targets."""
    found = np.bincount(targets.owners, np.nan_to_num(worth) * places.chance(ANSWERED), targets.n_lists)
    return np.where(np.diff(targets.indptr) > 0, found, np.nan)


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
