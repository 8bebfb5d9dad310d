"""Evaluation and gates of a release: every stage and baseline, through the engine's own stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.gate import GateVerdict, gate
from ranking.training.pairs import GradeScale
from retrieval.data.dataset import Events
from retrieval.data.requests import Requests
from retrieval.metrics.baselines import (
    Baseline,
    bm25,
    event_baselines,
    histories,
    popularity,
    query_baselines,
    targets_of,
)
from retrieval.metrics.ranking import Values, ndcg_at, settled
from retrieval.sources.protocols import RequestBatch
from retrieval.text.rendering import item_texts
from retrieval.topk import CSR, Hits, Vectors
from serving.answering.release_settings import passed
from serving.answering.retriever import FusionName
from serving.answering.stages import Stages
from serving.evaluation.batch_requests import Logits, Offline, by_towers, query_shortlists
from serving.evaluation.figures import (
    Example,
    Figures,
    JudgedTask,
    Task,
    evaluate,
    given_stage,
    merge_reranked,
    needs_rerank,
    relevant_rows,
    rerank_sample,
)
from serving.evaluation.slices import noisy_queries, request_slices
from serving.shop import Shop

SHOWN = 5  # titles of an example
NOISY = "noisy_queries"


@dataclass(frozen=True)
class Untuned:
    """The pretrained encoder's vectors, a baseline."""

    items: Vectors  # [n_items, dim]
    queries: Vectors  # [n_test_queries, dim]
    noisy: Vectors  # [n_test_queries, dim] of the same queries, misspelt: see `slices.noisy_queries`


class Gated(NamedTuple):
    """The gate of a task: the reranked order against the one it was given, and against others by their name."""

    verdict: GateVerdict
    against: Mapping[str, GateVerdict]


@dataclass(frozen=True)
class Ranked:
    """Shortlists of one fold, and the same with the head of some of them reranked."""

    hits: Hits
    sample: NDArray[np.int64]  # positions of the requests that reranking is measured on
    reranked: Hits  # of those
    which: NDArray[np.int64]  # positions, among the sample, of those that reranking could change


@dataclass(frozen=True)
class Measurement:
    """One release's stages over one shop."""

    stages: Stages
    shop: Shop
    remove_seen: bool
    rerank_sample: int

    def gate_recommend(self) -> Gated | None:
        """nDCG@10 of the gate fold before and after reranking, as the engine answers by default; against popularity."""
        if self.shop.events is None or not self.stages.steps:
            return None
        offline, events = self._offline(), self.shop.data.events
        assert events is not None
        requests = self._sampled(self.shop.events.folds["gate"])
        hits, targets = offline.told(requests, remove_seen=self.remove_seen)
        ranked = self._ranked(hits, targets, offline.user_texts(requests), "recommend", "gate: recommendation", size=0)
        seen = histories(events, requests, self.shop.target_events) if self.remove_seen else None
        popular = popularity(len(requests), self._counts(events)).places(targets, exclude=seen)
        first, after, other = (ndcg_at(one, targets, 10) for one in (hits, ranked.reranked, popular))
        return _gated(first, after, requests.user, popularity=other)

    def gate_search(self) -> Gated | None:
        """The same for the judged queries of the gate fold; relevant is the highest grade present; against BM25."""
        if self.shop.judgements is None or not self.stages.steps:
            return None
        queries = self.shop.judgements.folds["gate"]
        typed, targets = self.shop.query_texts(queries), relevant_rows(*self.shop.judged(queries))
        texts = self.stages.spelled(typed)
        hits = query_shortlists(self.stages, texts, self.stages.user.queries(texts))
        asked = self.stages.query_user_texts(texts)
        ranked = self._ranked(hits, targets, asked, "search", "gate: search", size=self.rerank_sample)
        part, words = ranked.sample, bm25(typed, item_texts(self.shop.data.items)).places(targets)
        first, other = (ndcg_at(one, targets, 10)[part] for one in (hits, words))
        return _gated(first, ndcg_at(ranked.reranked, targets.select(part), 10), part, bm25=other)

    def evaluate(
        self, untuned: Untuned | None, gates: Mapping[str, Figures], release: str, examples: int
    ) -> tuple[Figures, list[Example]]:
        """The evaluation object of `serving.evaluate`, on the test fold, and some real requests of it."""
        shown: list[Example] = []
        recommend = self._recommend(untuned, gates, shown, examples) if self.shop.events is not None else None
        search = judged = None
        if self.shop.judgements is not None:
            search, judged = self._search(untuned, gates, shown, examples)
        return evaluate(recommend=recommend, search=search, judged=judged, gates=gates, release=release), shown

    def tasks(
        self, untuned: Untuned | None, gates: Mapping[str, Figures], heads: int = 0, *, noisy_reranked: bool = False
    ) -> dict[str, Task]:
        """What `evaluate` makes figures of, by name: `seen_removed`, `seen_kept` and `search`, as far as there are.

        `heads`: so many of the first items that each baseline recommends are kept as well. `noisy_reranked`: misspelt
        queries are reranked as others are.
        """
        found = self._recommend(untuned, gates, [], 0, heads) if self.shop.events is not None else {}
        if self.shop.judgements is not None:
            search = self._search(untuned, gates, [], 0)[0]
            found["search"] = self._noisy_reranked(search, "search" in passed(gates)) if noisy_reranked else search
        return found

    def _recommend(
        self, untuned: Untuned | None, gates: Mapping[str, Figures], shown: list[Example], examples: int, heads: int = 0
    ) -> dict[str, Task]:
        assert self.shop.events is not None
        assert self.shop.data.events is not None
        offline, requests = self._offline(), self.shop.events.folds["test"]
        events, n_items = self.shop.data.events, self.shop.data.n_items
        seen = histories(events, requests, self.shop.target_events)
        baselines = event_baselines(
            events, requests, self.shop.events, n_items, item_vectors=None if untuned is None else untuned.items
        )
        counts = self._counts(events)
        texts = offline.user_texts(requests)
        found: dict[str, Task] = {}
        logits, retriever = Logits(self.stages), self.stages.retriever
        for mode, exclude in (("seen_removed", seen), ("seen_kept", None)):
            targets = targets_of(requests) if exclude is None else targets_of(requests).without(exclude)
            hits = offline.shortlists(requests, exclude)
            name: FusionName = "recommend" if exclude is None else "recommend_unseen"
            fused = bool(retriever.fusion(name).sources)
            towers = offline.by_towers(requests, exclude) if fused else hits
            default = self.remove_seen == (exclude is not None)
            what = f"test: recommendation, {mode}"
            ranked = self._ranked(hits, targets, texts, name, what, size=self.rerank_sample, logits=logits)
            if default:
                shown += self._examples("shopper", [text.split("; ") for text in texts], ranked, targets, examples)
            found[mode] = Task(
                targets=targets,
                stages={name: baseline.places(targets, exclude=exclude) for name, baseline in baselines.items()}
                | {"retrieval": towers}
                | ({"fused": hits._replace(parts={})} if fused else {}),
                sampled=self._sampled_stages(ranked, "recommend" in passed(gates)),
                sample=ranked.sample,
                users=requests.user,
                counts=counts,
                slices=request_slices(events, requests, targets, counts, seen if exclude is None else None),
                heads={name: one.rank(heads, exclude=exclude) for name, one in baselines.items()} if heads else {},
            )
        return found

    def _search(
        self, untuned: Untuned | None, gates: Mapping[str, Figures], shown: list[Example], examples: int
    ) -> tuple[Task, JudgedTask]:
        assert self.shop.judgements is not None
        queries = self.shop.judgements.folds["test"]
        typed, (judged, grades) = self.shop.query_texts(queries), self.shop.judged(queries)
        texts = self.stages.spelled(typed)
        vectors = self.stages.user.queries(texts)
        retriever, targets = self.stages.retriever, relevant_rows(judged, grades)
        baselines = self._query_baselines(typed, untuned, None if untuned is None else untuned.queries)
        stages = self._searched(texts, vectors, baselines)
        hits = stages[given_stage(stages)]
        asked = self.stages.query_user_texts(texts)
        ranked = self._ranked(hits, targets, asked, "search", "test: search", size=self.rerank_sample)
        shown += self._examples("search", [[text] for text in typed], ranked, targets, examples)
        on = "search" in passed(gates)
        noisy = self._noisy(noisy_queries(self.shop, queries), untuned)
        search = Task(
            targets=targets,
            stages=stages,
            sampled=self._sampled_stages(ranked, on),
            sample=ranked.sample,
            judged=judged,
            grades=grades,
            variants={NOISY: Task(targets=targets, stages=noisy, judged=judged, grades=grades)},
        )
        scores = {name: baseline.pair_scores(judged) for name, baseline in baselines.items()}
        scores["retrieval"] = retriever.tower_scores(vectors, judged)
        given = retriever.pair_scores(vectors, RequestBatch.of_texts(texts), judged, "search")
        scores |= {"fused": given} if "fused" in stages else {}
        predicted = self._predicted(asked, judged, scores["retrieval"])
        final = {"final": predicted["reranked"]} if on and predicted else {}
        scores |= {} if final else {"final": given}
        return search, JudgedTask(judged=judged, grades=grades, scores=scores, predicted=predicted | final)

    def _noisy_reranked(self, search: Task, on: bool) -> Task:
        """The task of search with misspelt queries reranked, as far as the others are."""
        assert self.shop.judgements is not None
        noisy = search.variants[NOISY]
        texts = self.stages.spelled(noisy_queries(self.shop, self.shop.judgements.folds["test"]))
        hits = noisy.stages[given_stage(noisy.stages)]
        assert isinstance(hits, Hits)
        asked = self.stages.query_user_texts(texts)
        ranked = self._ranked(hits, noisy.targets, asked, "search", "test: search, misspelt", size=self.rerank_sample)
        told = replace(noisy, sampled=self._sampled_stages(ranked, on), sample=ranked.sample)
        return replace(search, variants={NOISY: told})

    def _noisy(self, texts: list[str], untuned: Untuned | None) -> dict[str, Hits]:
        """Every stage and baseline of search for the misspelt queries."""
        baselines = self._query_baselines(texts, untuned, None if untuned is None else untuned.noisy)
        read = self.stages.spelled(texts)
        return self._searched(read, self.stages.user.queries(read), baselines)

    def _query_baselines(
        self, texts: list[str], untuned: Untuned | None, vectors: Vectors | None
    ) -> dict[str, Baseline]:
        """`vectors` are the untuned encoder's of the texts, float32 [n, dim]."""
        items = None if untuned is None else untuned.items
        return query_baselines(texts, item_texts(self.shop.data.items), query_vectors=vectors, item_vectors=items)

    def _searched(self, texts: list[str], vectors: Vectors, baselines: Mapping[str, Baseline]) -> dict[str, Hits]:
        """The order of each baseline, of the towers and, where there are several sources, of all of them."""
        hits = query_shortlists(self.stages, texts, vectors)
        ranked = {name: baseline.rank(300) for name, baseline in baselines.items()}
        if not self.stages.retriever.fusion("search").sources:
            return ranked | {"retrieval": hits}
        return ranked | {"retrieval": by_towers(self.stages, vectors), "fused": hits}

    def _predicted(self, texts: list[str], judged: CSR, towers: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The grade that the cross-encoder and the towers' scores together give to each judged pair."""
        if not self.stages.steps or self.shop.data.judgements is None:
            return {}
        blended = self.stages.steps[-1].blend("grade")(self.stages.pair_logits(texts, judged), towers)
        return {"reranked": GradeScale.of(self.shop.data.judgements.grade).grade(blended)}

    def _sampled_stages(self, ranked: Ranked, on: bool) -> dict[str, Hits]:
        given = ranked.hits.select(ranked.sample)
        if not self.stages.steps:
            return {"final": given}
        return {"reranked": ranked.reranked, "final": ranked.reranked if on else settled(given)}

    def _ranked(
        self,
        hits: Hits,
        targets: CSR,
        texts: list[str],
        name: FusionName,
        what: str,
        *,
        size: int,
        logits: Logits | None = None,
    ) -> Ranked:
        """Reranks the sampled requests that have a target in the head of their shortlist; no other can change.

        `logits` are those of the same requests, kept from one way of asking to the next.
        """
        sample = rerank_sample(len(hits.rows), size)
        part, wanted = hits.select(sample), targets.select(sample)
        which = np.flatnonzero(needs_rerank(part.head(self.stages.depth), wanted))
        if not self.stages.steps or not len(which):
            return Ranked(hits, sample, settled(part), which)
        head = part.select(which)
        logits = logits or Logits(self.stages)
        asked = [texts[i] for i in sample[which]]
        reranked = self.stages.rerank(asked, head, name, logits_of=logits.told(sample[which], asked, what))
        return Ranked(hits, sample, merge_reranked(part, which, reranked.hits), which)

    def _examples(
        self, kind: str, asked: list[list[str]], ranked: Ranked, targets: CSR, examples: int
    ) -> list[Example]:
        """Requests whose target was in the shortlist, spread over the sample."""
        picked = ranked.which[np.linspace(0, len(ranked.which) - 1, min(examples, len(ranked.which))).astype(int)]
        wanted = targets.select(ranked.sample[picked])
        return [
            Example(
                kind="search" if kind == "search" else "shopper",
                asked=asked[ranked.sample[at]],
                before=self.shop.titles(ranked.hits.rows[ranked.sample[at]][:SHOWN]),
                after=self.shop.titles(ranked.reranked.rows[at][:SHOWN]),
                targets=frozenset(self.shop.titles(wanted.rows[wanted.indptr[i] : wanted.indptr[i + 1]])),
            )
            for i, at in enumerate(picked)
        ]

    def _offline(self) -> Offline:
        assert self.shop.data.events is not None
        return Offline.of(self.stages, self.shop.data.events, self.shop.target_events)

    def _counts(self, events: Events) -> NDArray[np.int64]:
        """How often each item was taken in training, int64 [n_items]."""
        assert self.shop.events is not None
        return np.bincount(events.item[self.shop.events.train_target], minlength=self.shop.data.n_items)

    def _sampled(self, requests: Requests) -> Requests:
        return requests.select(rerank_sample(len(requests), self.rerank_sample))


def _gated(before: Values, after: Values, users: NDArray[np.integer], **others: Values) -> Gated:
    known = ~np.isnan(before)

    def against(values: Values) -> GateVerdict:
        return gate(values[known], after[known], users=users[known])

    return Gated(against(before), {name: against(values) for name, values in others.items()})
