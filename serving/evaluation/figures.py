"""From ranked lists to the figures of an evaluation: pure, and the same for every stage and baseline.

The pipeline ranks; here each stage becomes a map of `recall@k`, `ndcg@k` and `mrr@k`, and all of them one JSON object.
Ties count at their expected value (`retrieval.metrics`), intervals are seeded percentile bootstraps (`ranking.gate`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.gate import gate
from retrieval.metrics import ranking as metrics
from retrieval.metrics.ranking import Counts, Places, Ranked, Values
from retrieval.topk import CSR, Hits, Mask, Scores

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
Figures: TypeAlias = dict[str, Json]
Positions: TypeAlias = NDArray[np.int64]

CUTS = (5, 10, 20, 50, 100)
MIN_SLICE = 20  # requests under which a slice is left out: its figures would be noise
MIN_JUDGED = 5  # items of a query, of more than one grade, before their order says anything


@dataclass(frozen=True, kw_only=True)
class MeasuredTask:
    """One way of asking the whole catalogue: recommendation with seen items removed or kept, or search.

    targets: the rows each request is to find; a request without any is left out of every mean.
    stages: what each stage and baseline ranked, for all requests.
    sampled: what was ranked only for the requests at `sample` (positions; None: all): what reads texts. Their order is
        taken as it stands, whatever scores they carry.
    users: int [n_requests], whose requests are resampled together; each request by itself where None.
    counts: events of each item, int64 [n_items]; adds coverage, novelty and popularity bias to stages that are Hits.
    judged, grades: every judged row of each request and its grade, float [n_judged]: adds `judged_share@10` and
        `ndcg_judged@k`, which passes over unjudged items, to stages that are Hits.
    slices: some of the targets by name, bool [n_targets]: `stages` are measured on those too, judgements aside.
    variants: the same requests asked in another way, by name: measured as slices are.
    heads: the first items of stages that are Places, for figures of whole lists, such as coverage.
    """

    targets: CSR
    stages: Mapping[str, Ranked]
    sampled: Mapping[str, Hits] = field(default_factory=dict)
    sample: Positions | None = None
    users: NDArray[np.integer] | None = None
    counts: Counts | None = None
    judged: CSR | None = None
    grades: NDArray[np.floating] | None = None
    slices: Mapping[str, Mask] = field(default_factory=dict)
    variants: Mapping[str, MeasuredTask] = field(default_factory=dict)
    heads: Mapping[str, Hits] = field(default_factory=dict)

    def parts(self) -> list[tuple[Positions, MeasuredTask]]:
        """Tasks whose stages are all of the same requests, with the positions of those: all requests with what was run
        for each of them, then, where some stages were run for a sample alone, that sample with every stage."""
        everyone = np.arange(self.targets.n_lists)
        ranked = {name: metrics.without_ties(hits) for name, hits in self.sampled.items()}
        if not ranked or self.sample is None or len(self.sample) == len(everyone):
            return [(everyone, replace(self, stages=_final_last({**self.stages, **ranked}), sampled={}, sample=None))]
        part = self.select(self.sample)
        part = replace(part, stages=_final_last({**part.stages, **ranked}))
        return [(everyone, replace(self, sampled={}, sample=None)), (self.sample, part)]

    def select(self, part: Positions) -> MeasuredTask:
        """Some of the requests, by position, with what was run for all; without slices and variants."""
        at = self.target_positions(part)
        pairs = None if self.judged is None else CSR(self.judged.indptr, np.arange(len(self.judged.rows))).select(part)
        return MeasuredTask(
            targets=self.targets.select(part),
            stages={
                name: ranked.select(part) if isinstance(ranked, Hits) else Places(ranked.above[at], ranked.tied[at])
                for name, ranked in self.stages.items()
            },
            users=None if self.users is None else self.users[part],
            counts=self.counts,
            judged=None if self.judged is None else self.judged.select(part),
            grades=None if self.grades is None or pairs is None else self.grades[pairs.rows],
            heads={name: hits.select(part) for name, hits in self.heads.items()},
        )

    def target_positions(self, part: Positions) -> Positions:
        """Where the targets of some requests stand among all targets."""
        return CSR(self.targets.indptr, np.arange(len(self.targets.rows))).select(part).rows


@dataclass(frozen=True, kw_only=True)
class JudgedTask:
    """Judged pairs to put in order, query by query.

    judged, grades: the judged rows of each query and their grades, float [n_pairs].
    scores: each stage's score of every pair, float32 [n_pairs]; a pair that a stage would not answer has -inf.
    predicted: the same of further stages, whose scores are grades on the grades' own scale: they have an error too.
    """

    judged: CSR
    grades: NDArray[np.floating]
    scores: Mapping[str, Scores]
    predicted: Mapping[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A real request and the titles of its shortlist as the sources order it and as it is then ordered, best first.

    asked: the query, or the titles that the shopper had last, newest first. targets: titles that were really wanted.
    """

    kind: Literal["shopper", "search"]
    asked: Sequence[str]
    before: Sequence[str]
    after: Sequence[str]
    targets: frozenset[str] = frozenset()


def evaluate(
    *,
    recommend: Mapping[str, MeasuredTask] | None = None,
    search: MeasuredTask | None = None,
    judged: JudgedTask | None = None,
    others: Mapping[str, MeasuredTask] | None = None,
    gates: Mapping[str, Json] | None = None,
    release: str | None = None,
    seed: int = 0,
) -> Figures:
    """All tasks as one JSON object, `{"tasks": {...}, "gate": {...}, "release": ...}`; a task without data is left out.

    recommend holds `seen_removed` and `seen_kept`, others further tasks by name; gates a verdict for each task that has
    a reranker. nan becomes null.
    """
    tasks: Figures = {}
    if recommend:
        tasks["recommend"] = {name: task_figures(task, seed=seed) for name, task in recommend.items()}
    if search is not None:
        tasks["search"] = task_figures(search, seed=seed)
    tasks |= {name: task_figures(task, seed=seed) for name, task in (others or {}).items()}
    if judged is not None:
        tasks["judged"] = judged_figures(judged)
    return {"tasks": tasks, "gate": dict(gates or {}), "release": release}


def task_figures(task: MeasuredTask, *, seed: int = 0) -> Figures:
    """`n`, `gain` and `stages`, all of them of the same requests, and `slices`, each with its own `n` and `stages`.

    Where stages were run for a sample alone, they stand under `sample`, with its `n`, beside every other stage on that
    sample. `changes` holds what each part of the second stage brought, see `steps_of`.
    """
    (_, whole), *sample = task.parts()
    found: Figures = {"n": _answerable(task.targets), "gain": metrics.gain_name(), "stages": _stages(whole)}
    if task.grades is not None and len(task.grades):
        found["gain_judged"] = metrics.gain_name("exponential", float(task.grades.min()))
    for _, part in sample:
        found["sample"] = {"n": _answerable(part.targets), "stages": _stages(part)}
    changes: Figures = {}
    for part in (whole, *(part for _, part in sample)):
        steps = {after: before for before, after in steps_of(part.stages) if after not in changes}
        changes |= {after: _change(part, before, after, seed) for after, before in steps.items()}
    found["changes"] = changes
    found["slices"] = slice_figures(task)
    return found


def slice_figures(task: MeasuredTask) -> Figures:
    """`n` and `stages` of every slice and variant with at least MIN_SLICE requests; nothing is ranked again."""
    parts = {name: _cut(task, mask) for name, mask in task.slices.items()}
    found: Figures = {}
    for name, part in {**parts, **task.variants}.items():
        n = _answerable(part.targets)
        if n >= MIN_SLICE:
            found[name] = {"n": n, "stages": _stages(part)}
    return found


def judged_figures(task: JudgedTask) -> Figures:
    """nDCG over queries with 5 or more judged items of more than one grade; RMSE and Spearman over all pairs.

    `ndcg@k` has gain 2^(grade - lowest grade) - 1, `ndcg_plain@10` 2^grade - 1, both named beside it. Recall and MRR
    find the items of the highest grade. The stage `random` is the expected value of a random order.
    """
    lowest = float(task.grades.min()) if len(task.grades) else 0.0
    useful = orderable(task.judged, task.grades)
    scores = {"random": np.zeros(len(task.grades), np.float32), **task.scores, **task.predicted}
    return {
        "n": int(np.count_nonzero(useful)),
        "pairs": len(task.grades),
        "gain": metrics.gain_name("exponential", lowest),
        "gain_plain": metrics.gain_name("exponential"),
        "stages": {
            name: _judged_stage(task, useful, values, lowest) | _agreement(values, task.grades, name in task.predicted)
            for name, values in scores.items()
        },
    }


def as_object(value: Json) -> Mapping[str, Json]:
    """The JSON object that stands in this place of an evaluation; TypeError where something else does."""
    if not isinstance(value, Mapping):
        raise TypeError(f"an evaluation holds an object here, not {type(value).__name__}")
    return value


def given_stage(stages: Collection[str]) -> str:
    """The stage whose order a cross-encoder is given: that by features, else all sources together where there are
    several, else the towers alone.

    >>> given_stage(["bm25", "retrieval"]), given_stage(["retrieval", "fused", "final"])
    ('retrieval', 'fused')
    """
    return next((stage for stage in ("features", "fused") if stage in stages), "retrieval")


def steps_of(stages: Collection[str]) -> list[tuple[str, str]]:
    """The stages before and after each part of the second stage, in the order in which they come: `features`, then
    `reweighed` (weights that were fitted beside the cross-encoder, without it), then `reranked` (with it).

    >>> steps_of(["bm25", "retrieval", "fused", "features", "reweighed", "reranked", "final"])
    [('fused', 'features'), ('features', 'reweighed'), ('reweighed', 'reranked')]
    >>> steps_of(["retrieval", "reranked"]), steps_of(["retrieval", "fused", "final"])
    ([('retrieval', 'reranked')], [])
    """
    first = "fused" if "fused" in stages else "retrieval"
    chain = [first, *(stage for stage in ("features", "reweighed", "reranked") if stage in stages)]
    return list(pairwise(chain)) if first in stages else []


def relevant_rows(judged: CSR, grades: NDArray[np.floating]) -> CSR:
    """The judged rows of the highest grade present in the data: what search is to find."""
    return judged.where(grades == grades.max(initial=-np.inf))


def orderable(judged: CSR, grades: NDArray[np.floating]) -> Mask:
    """Queries with MIN_JUDGED or more judged items of more than one grade, bool [n_queries]."""
    highest, lowest = np.full(judged.n_lists, -np.inf), np.full(judged.n_lists, np.inf)
    np.maximum.at(highest, judged.owners, grades)
    np.minimum.at(lowest, judged.owners, grades)
    return (np.diff(judged.indptr) >= MIN_JUDGED) & (highest > lowest)


def rerank_sample(n: int, size: int = 4000, *, seed: int = 0) -> Positions:
    """The fixed random sample of requests that reranking is measured on, in order; all of them where size is 0."""
    if size == 0 or size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def needs_rerank(hits: Hits, targets: CSR) -> Mask:
    """The requests whose figures reranking can change, bool [n_requests]: those with a target in the shortlist.

    A reranker permutes the shortlist, so that where no target is in it recall, MRR and nDCG stay as they are. Give only
    the head of the hits that it would permute.
    """
    listed = metrics.places_in(hits, targets).tied > 0
    return np.bincount(targets.owners, listed, targets.n_lists) > 0


def merge_reranked(hits: Hits, which: Mask | Positions, reranked: Hits) -> Hits:
    """The hits with those of some requests replaced by their reranked order; the others stay as they are.

    Every list comes back in the order shown, without ties.
    """
    rows = hits.rows.copy()
    rows[which, : reranked.rows.shape[1]] = reranked.rows
    return metrics.without_ties(Hits(rows, hits.scores))


def _cut(task: MeasuredTask, kept: Mask) -> MeasuredTask:
    """The task for some of its targets alone, bool [n_targets], and for the requests that have one of those."""
    targets = task.targets.where(kept)
    part = np.flatnonzero(np.diff(targets.indptr))
    stages: dict[str, Ranked] = {
        name: ranked.select(part) if isinstance(ranked, Hits) else Places(ranked.above[kept], ranked.tied[kept])
        for name, ranked in task.stages.items()
    }
    return replace(task, targets=targets.select(part), stages=stages, judged=None, grades=None)


def _final_last(stages: Mapping[str, Ranked]) -> dict[str, Ranked]:
    """The stages with the order that is answered behind all others."""
    return dict(sorted(stages.items(), key=lambda stage: stage[0] == "final"))


def _stages(task: MeasuredTask) -> Figures:
    return {name: _stage(ranked, task) for name, ranked in task.stages.items()}


def _stage(ranked: Ranked, task: MeasuredTask) -> Figures:
    found = _at_cuts(ranked, task.targets)
    if isinstance(ranked, Hits) and task.counts is not None:
        found["coverage@10"] = _number(metrics.coverage_at(ranked, len(task.counts), 10))
        found["novelty@10"] = _number(metrics.novelty_at(ranked, task.counts, 10))
        found["popularity_bias@10"] = _number(metrics.popularity_bias_at(ranked, task.counts, 10))
    if isinstance(ranked, Hits) and task.judged is not None and task.grades is not None:
        found |= _among_judged(ranked, task.judged, task.grades, float(task.grades.min(initial=np.inf)))
    return found


def _at_cuts(ranked: Ranked, targets: CSR) -> Figures:
    places = metrics.places_in(ranked, targets) if isinstance(ranked, Hits) else ranked
    found: Figures = {}
    for name, measure in (("recall", metrics.recall_at), ("ndcg", metrics.ndcg_at), ("mrr", metrics.mrr_at)):
        found |= {f"{name}@{k}": _mean(measure(places, targets, k)) for k in CUTS}
    return found


def _among_judged(hits: Hits, judged: CSR, grades: NDArray[np.floating], lowest: float) -> Figures:
    places = metrics.places_in(hits, judged)
    shown = np.count_nonzero(hits.rows[:, :10] >= 0, axis=1)
    seen = np.bincount(judged.owners, places.chance(10), judged.n_lists)
    share = np.divide(seen, shown, out=np.full(len(seen), np.nan), where=shown > 0)
    listed = places.tied > 0
    order = metrics.by_score(judged.where(listed), -places.above[listed].astype(np.float32))
    ndcg = {
        f"ndcg_judged@{k}": _mean(metrics.ndcg_at(order, judged, k, grades=grades, gain="exponential", lowest=lowest))
        for k in CUTS
    }
    return {"judged_share@10": _mean(share), **ndcg}


def _change(task: MeasuredTask, before: str, after: str, seed: int) -> Figures:
    first, then = (metrics.ndcg_at(task.stages[name], task.targets, 10) for name in (before, after))
    return {"against": before, **_before_and_after(first, then, task.users, seed)}


def _before_and_after(before: Values, after: Values, users: NDArray[np.integer] | None, seed: int) -> Figures:
    known = ~np.isnan(before)
    before, after = before[known], after[known]
    users = None if users is None else users[known]
    change = gate(before, after, users=users, seed=seed)
    sides = {"before": before, "after": after}
    spread = {name: gate(np.zeros(len(side)), side, users=users, seed=seed) for name, side in sides.items()}
    return {
        "metric": "ndcg@10",
        "n": len(before),
        **{name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in spread.items()},
        "change": {"mean": change.mean, "low": change.low, "high": change.high},
    }


def _judged_stage(task: JudgedTask, useful: Mask, scores: Scores, lowest: float) -> Figures:
    order = metrics.by_score(task.judged, scores).select(useful)
    judged = task.judged.select(useful)
    kept = useful[task.judged.owners]
    grades = task.grades[kept]
    found = _at_cuts(order, relevant_rows(judged, grades))
    for k in CUTS:
        graded = metrics.ndcg_at(order, judged, k, grades=grades, gain="exponential", lowest=lowest)
        found[f"ndcg@{k}"] = _mean(graded)
    found["ndcg_plain@10"] = _mean(metrics.ndcg_at(order, judged, 10, grades=grades, gain="exponential"))
    return found


def _agreement(scores: Scores, grades: NDArray[np.floating], predicts: bool) -> Figures:
    """Spearman's correlation of scores and grades over all pairs, and the error of scores that predict grades."""
    from scipy.stats import spearmanr

    found: Figures = {}
    if predicts and len(grades):
        found["rmse"] = float(np.sqrt(np.square(np.asarray(scores, np.float64) - grades).mean()))
    if len(np.unique(scores)) > 1 and len(np.unique(grades)) > 1:
        found["spearman"] = float(spearmanr(scores, grades).statistic)
    return found


def _answerable(targets: CSR) -> int:
    return int(np.count_nonzero(np.diff(targets.indptr)))


def _mean(values: Values) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
