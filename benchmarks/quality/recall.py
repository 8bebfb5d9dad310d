"""Quality by stage and slice, with intervals, in money, and where the missed targets were lost.

Of the figures that are no standard of ranking:

- `hit_rate@k`, the proxy of conversion: the share of requests with any of what was taken among the first k.
- `repeat_recall@10`, the proxy of repeat purchases: recall over the targets that their shopper had taken before (Li et
  al., "A Next Basket Recommendation Reality Check", TOIS 2023), where what was taken before may be answered.
- `value_recall@10`: the mean share of what a request's targets are worth. `revenue@10`: the share of what all targets
  together are worth. `revenue_per_request@10`: what was found of it, in the shop's money, a request. Worth is the price
  paid times the quantity where events have them, else the catalogue's price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.intervals import mean_intervals, owner_means
from benchmarks.quality.beyond_accuracy import Shown, figure_line
from benchmarks.quality.funnel import Funnel
from benchmarks.quality.parts import Part, parts_of
from benchmarks.quality.revenue import Taken, prices_of
from benchmarks.quality.slices import event_slices, item_slices
from benchmarks.quality.tasks import ANSWERED, event_side, training_counts
from benchmarks.result_lines import MAX_USERS, Line
from indexing.ann.exact import ExactIndex
from retrieval.metrics import beyond_accuracy as beyond
from retrieval.metrics import ranking as metrics
from retrieval.metrics.baselines import histories, targets_of
from retrieval.metrics.ranking import Places, Values
from retrieval.topk import CSR, Hits, Mask
from serving.evaluation.batch_requests import Offline, query_shortlists
from serving.evaluation.evaluator import Measurement
from serving.evaluation.figures import MIN_SLICE, Task, given_stage
from serving.shop import Shop

MEASURES = {
    "recall": metrics.recall_at, "ndcg": metrics.ndcg_at, "mrr": metrics.mrr_at, "hit_rate": metrics.hit_rate_at
}  # fmt: skip
CUTS = {"recall": (1, 5, 10, 20, 50, 100), "ndcg": (10, 100), "mrr": (10,), "hit_rate": (1, 10)}
KEPT = ("ndcg@10", "recall@100")  # whose value of every shopper is kept, so that two runs can be compared
SLICED = ("recall@10", "recall@100", "ndcg@10")


@dataclass(frozen=True)
class Quality:
    """Ranked lists of a shop's test requests, to be told in lines."""

    shop: Shop
    tasks: Mapping[str, Task]
    resamples: int = 1_000

    def lines(self) -> Iterator[Line]:
        """Every task: stages, slices, and what is beyond accuracy."""
        yield from self.stages()
        for name, task in self.tasks.items():
            yield from self._slices(name, task)
            yield from Shown(self.shop).lines(name, task)

    def stages(self) -> Iterator[Line]:
        """Every stage of every task over all requests that it was run for."""
        for name, task in self.tasks.items():
            worth = self._worth(name, task.targets)
            again = task.slices.get("repeats")
            for part in parts_of(task):
                for stage, places in part.stages.items():
                    yield from self._stage({"task": name, "stage": stage}, places, part, worth[part.target_at], again)

    def _stage(
        self, labels: Mapping[str, str], places: Places, part: Part, worth: Values, again: Mask | None
    ) -> Iterator[Line]:
        named = {f"{name}@{k}": _measure(f"{name}@{k}", places, part.targets) for name in CUTS for k in CUTS[name]}
        if again is not None:
            repeats = again[part.target_at]
            own = Places(places.above[repeats], places.tied[repeats])
            named[f"repeat_recall@{ANSWERED}"] = metrics.recall_at(own, part.targets.where(repeats), ANSWERED)
        if np.isfinite(worth).any():
            named[f"value_recall@{ANSWERED}"] = beyond.value_recall_at(places, part.targets, worth, ANSWERED)
            money = _found_worth(places, part.targets, worth)
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
            samples = owner_means(values, part.users)[:MAX_USERS].round(4).tolist() if metric in KEPT else []
            about = {**labels, "metric": metric}
            yield Line(measured="quality", labels=about, unit="share", summary=summary, samples=samples)

    def _slices(self, name: str, task: Task) -> Iterator[Line]:
        for slice_name, kept in self._masks(name, task).items():
            for part in parts_of(task):
                yield from self._slice({"task": name, "slice": slice_name}, part.slice(kept))
        for variant, asked in task.variants.items():
            for part in parts_of(asked):
                yield from self._slice({"task": name, "slice": variant}, part)

    def _slice(self, labels: Mapping[str, str], part: Part) -> Iterator[Line]:
        """Every stage of a part, unless too few of its requests have a target; all stages see the same resamples."""
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

    def _masks(self, name: str, task: Task) -> dict[str, Mask]:
        """The slices of a task's targets, bool [n_targets] by name."""
        counts = None if self.shop.events is None else training_counts(self.shop)
        found = {**task.slices, **item_slices(self.shop.data.items, counts, task.targets)}
        if name == "search":
            return found
        events, split = event_side(self.shop)
        kinds = self._taken(task.targets).kinds()
        return found | event_slices(events, split.folds["test"], task.targets, kinds)

    def _worth(self, name: str, targets: CSR) -> Values:
        """What each target is worth to the shop, float64 [n_targets]."""
        prices = prices_of(self.shop.data.items)
        return prices[targets.rows] if name == "search" else self._taken(targets).worth(prices, targets.rows)

    def _taken(self, targets: CSR) -> Taken:
        events, split = event_side(self.shop)
        return Taken(events, split.folds["test"], split.target_events, targets)


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


def _measure(metric: str, places: Places, targets: CSR) -> Values:
    name, _, k = metric.partition("@")
    return MEASURES[name](places, targets, int(k))


def _found_worth(places: Places, targets: CSR, worth: Values) -> Values:
    """What the targets among the answered items are worth, a request; nan for one without targets."""
    found = np.bincount(targets.owners, np.nan_to_num(worth) * places.chance(ANSWERED), targets.n_lists)
    return np.where(np.diff(targets.indptr) > 0, found, np.nan)


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
