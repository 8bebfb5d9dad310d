"""The second stage of a run: for each order a ranker over features, learned from shortlists with a known outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lists import TrainingLists
from ranking.features.facts import ShopFacts
from ranking.features.registry import FeatureReader, features_of
from ranking.training.feature_ranker.choose import Chosen, choose, orders_better, refit
from ranking.training.pairs import members
from retrieval.progress import ProgressMeter
from retrieval.sources.fusion import TOWERS
from retrieval.sources.registry import FitCase, sources_for
from serving.answering.release_settings import OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.answering.stages.score import PARTS, read_features
from serving.evaluation.figures import needs_rerank, rerank_sample
from serving.evaluation.labelled import LabelledRequests, LabelledShortlists
from serving.fitting.fit_fusion import orders_of
from serving.fitting.leak_check import require_no_leak
from serving.shop import Shop

OF_EVENTS: tuple[OrderName, ...] = ("recommend", "recommend_unseen", "complete_cart")
TRAIN = {**dict.fromkeys(OF_EVENTS, ("ranker_train",)), "search": ("ranker_valid",)}
REFITTED = {**dict.fromkeys(OF_EVENTS, ("ranker_train", "ranker_valid", "gate")), "search": ("ranker_valid", "gate")}
MOST = 10_000  # lists of a fold that hold a target; more bring little, see docs/experiments
BLOCK = 1_024  # requests whose features are computed at once
SEARCH_VALID = 0.3  # share of the lists of search that choose, for its fold is one


@dataclass(frozen=True)
class FeatureFitting:
    """Fits and refits the second stage of a release over one shop; `state` orders by its fusion alone."""

    state: ReleaseState
    shop: Shop
    seed: int
    say: Callable[[str], None]

    def chosen(self, kinds: Sequence[str] | None) -> dict[OrderName, Chosen]:
        """The ranker that each order is best served by, of `kinds` (None: all), chosen on ranker_valid; an order with
        too few lists to learn from is left out. Raises BadConfig for a feature that knows the future."""
        found: dict[OrderName, Chosen] = {}
        for order, case in orders_of(self.state, self.shop):
            names = feature_names(self.state.facts, case)
            if order == "recommend":
                require_no_leak(self.state, self.shop, names, say=self.say)
            train, valid = self._halves(order, names)
            picked = choose(train, valid, kinds, seed=self.seed, say=partial(self._say, order))
            if picked is None:
                self.say(f"second stage, {order}: left out, for {train.n_lists} lists hold what was wanted, too few")
                continue
            found[order] = self._leaner(order, picked, train, valid)
        return found

    def _leaner(self, order: OrderName, picked: Chosen, train: TrainingLists, valid: TrainingLists) -> Chosen:
        """The chosen kind without the sources that have no weight in the fusion, where it orders as well: they would be
        read for features alone, which takes time of every request."""
        weights = self.state.retriever.fusion(order).weights
        idle = [name for name in self.state.facts.sources if not weights.get(name, 0.0)]
        names = [name for name in train.names if name not in {source + part for source in idle for part in PARTS}]
        if len(names) == len(train.names):
            return picked
        lean = choose(train.with_columns(names), valid, (picked.kind,), seed=self.seed)
        if lean is None or orders_better(picked.ranker, lean.ranker, valid):
            return picked
        self._say(order, f"{picked.kind} orders as well without the sources of weight 0: {', '.join(idle)}")
        return replace(lean, figures={**picked.figures, "without": idle})

    def refitted(self, chosen: Mapping[OrderName, Chosen]) -> SecondStage:
        """The same kinds fitted on every fold before test, as they were chosen and gated."""
        return SecondStage(
            {order: refit(one, self._lists(order, REFITTED[order], one.ranker.names)) for order, one in chosen.items()}
        )

    def _say(self, order: OrderName, line: str) -> None:
        self.say(f"second stage, {order}: {line}")

    def _halves(self, order: OrderName, names: Sequence[str]) -> tuple[TrainingLists, TrainingLists]:
        """The lists to learn from and those to choose on, with the features that differ within some list."""
        train = self._lists(order, TRAIN[order], names)
        train = train.with_columns(varying(train))
        if order != "search":
            return train, self._lists(order, ("ranker_valid",), train.names)
        shuffled = np.random.default_rng(self.seed).permutation(train.n_lists)
        cut = int(SEARCH_VALID * train.n_lists)
        return train.select(np.sort(shuffled[cut:])), train.select(np.sort(shuffled[:cut]))

    def _lists(self, order: OrderName, folds: Sequence[str], names: Sequence[str]) -> TrainingLists:
        reader = FeatureReader.of(names, self.state.facts)
        found = [one for fold in folds for one in self._found(order, fold)]
        return TrainingLists.join([lists_of(self.state, one, reader, order) for one in found])

    def _found(self, order: OrderName, fold: str) -> list[LabelledShortlists]:
        requests = LabelledRequests(replace(self.state, scores=frozenset()), self.shop)
        if order == "search":
            return [requests.searches(fold)]
        if order == "complete_cart":
            return requests.carts(fold)
        unseen = self.state.filter_seen or order == "recommend_unseen"
        return [requests.recommendations(fold, unseen=unseen)]


def lists_of(
    state: ReleaseState, found: LabelledShortlists, reader: FeatureReader, what: str, most: int = MOST
) -> TrainingLists:
    """The shortlists that hold a target, at most `most` of them drawn evenly, with their features; exact matches, whose
    place is fixed, are left out."""
    known = found.batch.vectors.any(axis=1)  # of others what is popular is answered
    useful = np.flatnonzero(needs_rerank(found.batch.candidates.hits, found.targets) & known)
    useful = useful[rerank_sample(len(useful), most)]
    meter, parts = ProgressMeter(len(useful), f"features, {what}", unit="lists"), []
    for block in _blocks(useful):
        part = found.select(block)
        parts.append(_labelled(state, part, reader))
        meter.advance(len(block))
    meter.close()
    return TrainingLists.join(parts) if parts else _labelled(state, found.select(useful), reader)


def _labelled(state: ReleaseState, found: LabelledShortlists, reader: FeatureReader) -> TrainingLists:
    candidates = found.batch.candidates
    rows = candidates.hits.rows
    features, fused = read_features(state, found.batch, reader)
    kept = (rows >= 0) & ~candidates.exact
    labels = members(rows, found.targets)[kept].astype(np.float32)
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int64)
    return TrainingLists(features[kept], fused[kept], labels, indptr, tuple(reader.names))


def feature_names(facts: ShopFacts, case: FitCase) -> list[str]:
    """The features of an order: every one that the shop has, of the sources those that the order may weigh."""
    counted = {TOWERS, *sources_for(case)}
    others = {name + part for name in facts.sources if name not in counted for part in PARTS}
    return [name for name in features_of(facts, search=case.order == "search") if name not in others]


def varying(lists: TrainingLists) -> list[str]:
    """The features that are not the same for all pairs."""
    if not len(lists.features):
        return list(lists.names)
    known = np.isfinite(lists.features)
    low = np.where(known, lists.features, np.inf).min(axis=0)
    high = np.where(known, lists.features, -np.inf).max(axis=0)
    missing = known.any(axis=0) & ~known.all(axis=0)
    return [name for name, one in zip(lists.names, (high > low) | missing, strict=True) if one]


def _blocks(lines: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (lines[start : start + BLOCK] for start in range(0, len(lines), BLOCK))
