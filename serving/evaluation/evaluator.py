"""Evaluation and gates of a release: every stage and baseline, through the engine's own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.gate import GateVerdict
from ranking.training.pairs import GradeScale
from retrieval.data.events import Events
from retrieval.metrics.baselines import (
    Baseline,
    bm25,
    event_baselines,
    histories,
    item_knn,
    popularity,
    query_baselines,
)
from retrieval.metrics.ranking import Ranked, Values, ndcg_at
from retrieval.sources.cooccurrence import cooccurrence
from retrieval.text.rendering import item_texts
from retrieval.topk import CSR, Hits, Vectors
from serving.answering.batch import Batch
from serving.answering.release_state import ReleaseState
from serving.answering.tasks import TASKS, GateName
from serving.evaluation.batch_requests import (
    EVERY_GATE,
    KnownLogits,
    QueriesAlone,
    by_towers,
    fused_hits,
    retrieved,
    with_texts,
)
from serving.evaluation.by_group import by_group
from serving.evaluation.figures import (
    Example,
    Figures,
    JudgedTask,
    MeasuredTask,
    evaluate,
    needs_rerank,
    rerank_sample,
)
from serving.evaluation.judged_order import judged_task
from serving.evaluation.labelled import LabelledRequests, LabelledShortlists
from serving.evaluation.reranking import Gated, Reranked, compared, gated, joined_stages, ranked, sampled_stages
from serving.evaluation.slices import noisy_queries, request_slices
from serving.shop import Shop

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GATES: tuple[GateName, ...] = ("recommend", "recommend_unseen", "search", "personalised_search", "complete_cart")
SHOWN = 5  # titles of an example
NOISY = "noisy_queries"
SEARCHED = 300  # places of a baseline's search, so that ties at 100 are seen whole


@dataclass(frozen=True)
class Untuned:
    """The pretrained encoder's vectors, a baseline."""

    items: Vectors  # [n_items, dim]
    queries: Vectors  # [n_test_queries, dim]
    noisy: Vectors  # [n_test_queries, dim] of the same queries, misspelt: see `slices.noisy_queries`


@dataclass(frozen=True)
class Measurement:
    """A release over one shop whose items are in the order of its index.

    `rerank_sample`: requests that reranking is measured on; 0: all.
    """

    state: ReleaseState
    shop: Shop
    rerank_sample: int

    def feature_gates(self) -> dict[GateName, GateVerdict]:
        """Of each task that the gate fold has requests of, and that a ranker reads features for: nDCG@10 of the fused
        order and of the ranker's, whatever the release says of it; of all requests, for both orders are cheap."""
        measured = replace(self, state=replace(self.state, scores=EVERY_GATE), rerank_sample=0)
        found: dict[GateName, GateVerdict] = {}
        for name in GATES:
            parts = measured.gate_requests(name)
            if any(part.batch.scored is not None for part in parts):
                found[name] = compared(parts, [fused_hits(part.batch) for part in parts], [part.hits for part in parts])
        return found

    def gates(self) -> dict[GateName, Gated]:
        """The gate of each task that the gate fold has requests of: nDCG@10 with the cross-encoder's logit and without
        it, each side's weights fitted anew, as the engine answers by default; and against what a shop would show
        otherwise."""
        if not self.state.steps:
            return {}
        found: dict[GateName, Gated] = {}
        for name in GATES:
            parts = self.gate_requests(name)
            verdict = gated(self.state, parts, f"gate: {name}", self._against(name, parts))
            if verdict is not None:
                found[name] = verdict
        return found

    def gate_requests(self, name: GateName) -> list[LabelledShortlists]:
        """The requests of the gate fold that a task's gate is decided on, as the release orders them by features, where
        that passed its own."""
        most = self.rerank_sample
        if name == "complete_cart":
            return self.requests.carts("gate", most=most)
        if name == "personalised_search":
            found = self.requests.personalised_searches("gate", most=most)
            return [] if found is None else [found]
        if name == "search":
            return [self.requests.searches("gate", most=most)] if self.shop.judgements is not None else []
        if self.shop.events is None or (name == "recommend_unseen" and self.state.filter_seen):
            return []  # where recommendations leave out what was taken, their own gate is that of new things
        unseen = True if name == "recommend_unseen" else None
        return [self.requests.recommendations("gate", unseen=unseen, most=most)]

    def _against(self, name: GateName, parts: Sequence[LabelledShortlists]) -> dict[str, Values]:
        """What a shop would show otherwise: its nDCG@10 of every request, float [n]."""
        others: dict[GateName, tuple[str, Callable[[LabelledShortlists], Ranked]]] = {
            "recommend": ("popularity", self._popular),
            "recommend_unseen": ("popularity", self._popular),
            "search": ("bm25", lambda part: self._bm25(part.batch.queries.typed).places(part.targets)),
            "personalised_search": ("query_alone", lambda part: self._query_alone(part.batch)),
            "complete_cart": (
                "item_knn", lambda part: self._cart_knn(part).places(part.targets, exclude=part.batch.exclude)
            ),
        }  # fmt: skip
        other, order = others[name]
        return {other: np.concatenate([np.empty(0), *(ndcg_at(order(part), part.targets, 10) for part in parts)])}

    def _popular(self, part: LabelledShortlists) -> Ranked:
        seen = part.batch.exclude if part.task.excludes_taken else None
        return popularity(len(part), self.counts).places(part.targets, exclude=seen)

    def evaluate(
        self, untuned: Untuned | None, gates: Mapping[str, Figures], release: str, examples: int
    ) -> tuple[Figures, list[Example]]:
        """The evaluation object of `serving.evaluation.figures`, on the test fold, and some real requests of it."""
        shown: list[Example] = []
        recommend, items = None, self.shop.data.items
        if self.shop.events is not None:
            recommend = by_group(self._recommend(untuned, shown, examples), items)
        search = judged = None
        if self.shop.judgements is not None:
            search, judged = self._search(untuned, shown, examples)
            search = by_group({"search": search}, items)["search"]
        others = by_group({name: task for name, task in self._others().items() if task is not None}, items)
        return evaluate(
            recommend=recommend, search=search, judged=judged, others=others, gates=gates, release=release
        ), shown

    def tasks(
        self, untuned: Untuned | None, heads: int = 0, *, noisy_reranked: bool = False
    ) -> dict[str, MeasuredTask]:
        """What `evaluate` makes figures of, by name: `seen_removed`, `seen_kept`, `search`, `personalised_search` and
        `complete_cart`, as far as there are.

        `heads`: so many of the first items that each baseline recommends are kept as well. `noisy_reranked`: misspelt
        queries are reranked as others are.
        """
        found = self._recommend(untuned, [], 0, heads) if self.shop.events is not None else {}
        if self.shop.judgements is not None:
            search = self._search(untuned, [], 0)[0]
            found["search"] = self._noisy_reranked(search) if noisy_reranked else search
        others = {name: task for name, task in self._others().items() if task is not None}
        return by_group(found | others, self.shop.data.items)

    def _others(self) -> dict[str, MeasuredTask | None]:
        return {"personalised_search": self._personalised(), "complete_cart": self._cart()}

    def _recommend(
        self, untuned: Untuned | None, shown: list[Example], examples: int, heads: int = 0
    ) -> dict[str, MeasuredTask]:
        assert self.shop.events is not None
        requests, events = self.shop.events.folds["test"], self._events
        seen = histories(events, requests, self.shop.target_events)
        baselines = event_baselines(
            events,
            requests,
            self.shop.events,
            self.shop.data.n_items,
            item_vectors=None if untuned is None else untuned.items,
        )
        found: dict[str, MeasuredTask] = {}
        texts: Sequence[str] | None = None
        logits = KnownLogits(self.state)
        for mode, unseen in (("seen_removed", True), ("seen_kept", False)):
            exclude = seen if unseen else None
            gate: GateName = "recommend_unseen" if unseen else "recommend"
            case = self.requests.recommendations("test", unseen=unseen)
            batch = with_texts(self.state, case.batch) if texts is None else replace(case.batch, ranker_texts=texts)
            texts, case = batch.ranker_texts, replace(case, batch=batch)
            what = f"test: recommendation, {mode}"
            order = ranked(self.state, case, what, sample=self._sample(len(case)), logits=logits)
            if self.state.filter_seen == unseen:
                asked = [text.split("; ") for text in texts or ()]
                shown += self._examples(asked, case, order, examples)
            found[mode] = MeasuredTask(
                targets=case.targets,
                stages={
                    **{name: one.places(case.targets, exclude=exclude) for name, one in baselines.items()},
                    **self._given(case, gate),
                },
                sampled=self._sampled(gate, order),
                sample=order.sample,
                users=requests.user,
                counts=self.counts,
                slices=request_slices(events, requests, case.targets, self.counts, None if unseen else seen),
                heads={name: one.rank(heads, exclude=exclude) for name, one in baselines.items()} if heads else {},
            )
        return found

    def _search(self, untuned: Untuned | None, shown: list[Example], examples: int) -> tuple[MeasuredTask, JudgedTask]:
        assert self.shop.judgements is not None
        queries = self.shop.judgements.folds["test"]
        case, (judged, grades) = self.requests.searches("test"), self.shop.judged(queries)
        case = replace(case, batch=with_texts(self.state, case.batch))
        typed = case.batch.queries.typed
        baselines = self._query_baselines(typed, untuned, None if untuned is None else untuned.queries)
        order = ranked(self.state, case, "test: search", sample=self._sample(len(case)))
        shown += self._examples([[text] for text in typed], case, order, examples)
        misspelt = self.requests.searches("test", texts=noisy_queries(self.shop, queries))
        noisy = self._query_baselines(misspelt.batch.queries.typed, untuned, None if untuned is None else untuned.noisy)
        search = MeasuredTask(
            targets=case.targets,
            stages=self._searched(case, baselines),
            sampled=self._sampled("search", order),
            sample=order.sample,
            judged=judged,
            grades=grades,
            variants={
                NOISY: MeasuredTask(
                    targets=case.targets, stages=self._searched(misspelt, noisy), judged=judged, grades=grades
                )
            },
        )
        scores = {name: baseline.pair_scores(judged) for name, baseline in baselines.items()}
        assert self.shop.data.judgements is not None
        scale = GradeScale.of(self.shop.data.judgements.grade)
        return search, judged_task(self.state, case.batch, judged, grades, scores, scale)

    def _personalised(self) -> MeasuredTask | None:
        case = self.requests.personalised_searches("test")
        if case is None:
            return None
        assert case.past is not None
        typed, history = case.batch.queries.typed, case.batch.users.behaviour.history
        baselines = {
            "bm25": self._bm25(typed),
            "popularity": popularity(len(case), self.counts),
            "item_knn": item_knn(history, self._similar, self.counts),
        }
        sample = self._sample(len(case))
        order = ranked(self.state, case, "test: personalised search", sample=sample)
        return MeasuredTask(
            targets=case.targets,
            stages={
                **{name: one.places(case.targets) for name, one in baselines.items()},
                "query_alone": self._query_alone(case.batch),
                **self._given(case, "personalised_search"),
            },
            sampled=self._sampled("personalised_search", order),
            sample=sample,
            users=case.owner,
        )

    def _cart(self) -> MeasuredTask | None:
        parts = self.requests.carts("test")
        if not parts:
            return None
        stages: list[dict[str, Hits]] = []
        sample, starts = self._sample(sum(map(len, parts))), np.cumsum([0, *map(len, parts)])
        orders = []
        for part, start in zip(parts, starts.tolist(), strict=False):
            own = sample[(start <= sample) & (sample < start + len(part))] - start
            orders.append(ranked(self.state, part, "test: cart", sample=own))
        for part in parts:
            popular = popularity(len(part), self.counts)
            found = {
                name: one.rank(SEARCHED, exclude=part.batch.exclude)
                for name, one in (("popularity", popular), ("item_knn", self._cart_knn(part)))
            }
            stages.append(found | self._given(part, "complete_cart"))
        return MeasuredTask(
            targets=CSR.join([part.targets for part in parts]),
            stages=joined_stages(stages),
            sampled=self._sampled("complete_cart", *orders),
            sample=sample,
            users=np.concatenate([part.owner for part in parts]),
        )

    def _noisy_reranked(self, search: MeasuredTask) -> MeasuredTask:
        """The task of search with misspelt queries reranked, as far as the others are."""
        assert self.shop.judgements is not None
        texts = noisy_queries(self.shop, self.shop.judgements.folds["test"])
        case = self.requests.searches("test", texts=texts)
        order = ranked(self.state, case, "test: search, misspelt", sample=self._sample(len(case)))
        noisy = replace(search.variants[NOISY], sampled=self._sampled("search", order), sample=order.sample)
        return replace(search, variants={NOISY: noisy})

    def _given(self, case: LabelledShortlists, gate: GateName) -> dict[str, Hits]:
        """The order of the towers, of all sources where there are several, of the features where they count, and the
        final one where no cross-encoder is run."""
        fused, given = fused_hits(case.batch)._replace(parts={}), case.hits._replace(parts={})
        several = case.task.order is not None and self.state.retriever.fusion(case.task.order).sources
        found = {"retrieval": by_towers(case.batch, self.state), "fused": fused} if several else {"retrieval": fused}
        found |= {} if case.batch.scored is None else {"features": given}
        return found if self._reranks(gate) else {**found, "final": given}

    def _searched(self, case: LabelledShortlists, baselines: Mapping[str, Baseline]) -> dict[str, Hits]:
        return {name: baseline.rank(SEARCHED) for name, baseline in baselines.items()} | self._given(case, "search")

    def _sampled(self, gate: GateName, *orders: Reranked) -> dict[str, Hits]:
        return sampled_stages(orders, on=self._reranks(gate)) if self.state.steps else {}

    def _reranks(self, gate: GateName | None) -> bool:
        return gate in self.state.reranks and bool(self.state.steps)

    def _sample(self, n: int) -> NDArray[np.int64]:
        """The requests that a cross-encoder is measured on, among n."""
        return rerank_sample(n, self.rerank_sample)

    def _query_alone(self, batch: Batch) -> Hits:
        """The same queries asked by nobody known."""
        found = retrieved(self.state, QueriesAlone(batch.queries.typed), TASKS["search"])
        return found.candidates.hits._replace(parts={})

    def _cart_knn(self, part: LabelledShortlists) -> Baseline:
        return item_knn(part.batch.users.given, self._similar, self.counts)

    def _bm25(self, texts: Sequence[str]) -> Baseline:
        return bm25(texts, self.item_texts, self.state.analyzer)

    def _query_baselines(
        self, texts: Sequence[str], untuned: Untuned | None, vectors: Vectors | None
    ) -> dict[str, Baseline]:
        """`vectors` are the untuned encoder's of the texts, float32 [n, dim]."""
        items = None if untuned is None else untuned.items
        return query_baselines(texts, self.item_texts, self.state.analyzer, query_vectors=vectors, item_vectors=items)

    def _examples(
        self, asked: Sequence[list[str]], case: LabelledShortlists, order: Reranked, examples: int
    ) -> list[Example]:
        """Requests whose target was in the shortlist, spread over the sample: in the order of the sources, and in that
        of what comes after them, where the gate lets it on or nothing else does."""
        by_features = case.batch.scored is not None
        if not (by_features or self.state.steps):
            return []
        reads = self.state.steps and (not by_features or self._reranks(case.task.gate))
        after = order.reranked if reads else case.hits.select(order.sample)
        useful = order.which if reads else np.flatnonzero(needs_rerank(after, case.targets.select(order.sample)))
        picked = useful[np.linspace(0, len(useful) - 1, min(examples, len(useful))).astype(int)]
        lines, before = order.sample[picked], fused_hits(case.batch)
        wanted = case.targets.select(lines)
        return [
            Example(
                kind="search" if case.task.order == "search" else "shopper",
                asked=asked[line],
                before=self.shop.titles(before.rows[line][:SHOWN]),
                after=self.shop.titles(after.rows[at][:SHOWN]),
                targets=frozenset(self.shop.titles(wanted.rows[wanted.indptr[i] : wanted.indptr[i + 1]])),
            )
            for i, (at, line) in enumerate(zip(picked.tolist(), lines.tolist(), strict=True))
        ]

    @cached_property
    def requests(self) -> LabelledRequests:
        """The shop's labelled requests over the release."""
        return LabelledRequests(self.state, self.shop)

    @cached_property
    def item_texts(self) -> list[str]:
        """The rendered items of the shop."""
        return item_texts(self.shop.data.items)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each item was taken in training, int64 [n_items]."""
        assert self.shop.events is not None
        return np.bincount(self._events.item[self.shop.events.train_target], minlength=self.shop.data.n_items)

    @property
    def _events(self) -> Events:
        assert self.shop.data.events is not None
        return self.shop.data.events

    @cached_property
    def _similar(self) -> csr_array:
        assert self.shop.events is not None
        return cooccurrence(self._events, self.shop.events.train, self.shop.data.n_items)
