"""Validation of towers finds the weights of their parts at which they find most."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from retrieval.data.dataset import DataSet
from retrieval.data.split import EventSplit
from retrieval.settings import HistoryConfig
from retrieval.topk import CSR, Vectors
from retrieval.towers.item_features import ItemFeatures
from retrieval.training.history_tower import HistoryTowers, QueryPairs, make_catalogue
from retrieval.training.item_to_item import ItemFactors
from retrieval.training.towers import TextPart, new_towers
from retrieval.training.validation import IDENTITY_WEIGHTS, QueryHistoryMix, Validation
from retrieval.training.windows import Windows
from walks import GROUPS, SIZE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def untrained(shop: DataSet, split: EventSplit, untuned: TextPart) -> tuple[HistoryTowers, Callable[..., Validation]]:
    """Towers before training, and their validation under changed settings."""
    config = HistoryConfig(dim=16, width=16, identity=8, longest=6)
    assert shop.events is not None
    windows = Windows.build(shop.events, split.train, split.train_target, 6)
    features = ItemFeatures.fit(shop.items)
    towers = new_towers(untuned.vectors, features, windows, config, has_queries=False, seed=1).eval()
    catalogue = make_catalogue(untuned.vectors, shop.items, features, windows, "cpu")
    none = QueryPairs(np.empty((0, 32), np.float32), np.empty(0, np.int64), np.empty(0, np.int64), CSR.from_lists([]))

    def validation(**changes: object) -> Validation:
        assert shop.events is not None
        found = Validation.over(shop.events, split, catalogue, none, config.model_copy(update=changes))
        assert found is not None
        return found

    return towers, validation


def test_a_history_counts_beside_a_query_as_much_as_finds_most(
    untrained: tuple[HistoryTowers, Callable[..., Validation]],
) -> None:
    towers, validation = copy.deepcopy(untrained[0]), untrained[1]()
    n, rows = len(validation.requests), np.arange(SIZE * GROUPS)
    after = rows // SIZE * SIZE + (rows + 1) % SIZE  # where every walk goes on to
    every = np.eye(len(rows), dtype=np.float32)
    knows_all = ItemFactors(10 * every, every[np.argsort(after)], np.empty((0, 0), np.float32))
    towers.set_identity_weight(0.5)

    def beside(vectors: Vectors, asked: NDArray[np.integer]) -> QueryHistoryMix | None:
        pairs, ends = validation.pairs._replace(vectors=vectors), validation.ends
        timeline = dataclasses.replace(validation.timeline, query=validation.timeline.query.copy())
        timeline.query[ends[asked >= 0] - 1] = asked[asked >= 0]  # the newest event was a query
        at = np.where(asked >= 0, ends - 1, -1)
        changed = dataclasses.replace(validation, pairs=pairs, timeline=timeline, query_at=at)
        return changed.fit_query_history_mix(towers, knows_all)

    exact = validation.catalogue.text.numpy()[validation.targets.rows]
    alone = beside(exact, np.arange(n))
    assert alone is not None
    assert alone.weight == 0.0
    same = beside(np.ones_like(exact), np.arange(n))  # the same query each time says nothing
    assert same is not None
    assert same.weight > 0.0
    assert beside(exact, np.where(np.arange(n) < 5, np.arange(n), -1)) is None
    assert float(towers.history.identity_scale * towers.scale.detach()) == pytest.approx(0.5)


def test_a_query_is_weighed_heard_and_unheard_and_leaves_who_did_nothing_before_alone(
    untrained: tuple[HistoryTowers, Callable[..., Validation]], monkeypatch: pytest.MonkeyPatch
) -> None:
    towers, validation = copy.deepcopy(untrained[0]), untrained[1]()
    at = validation.ends - 1
    at[0] = validation.timeline.offsets[validation.requests.user[0]]
    timeline = dataclasses.replace(validation.timeline, query=validation.timeline.query.copy())
    timeline.query[at] = 0
    pairs = validation.pairs._replace(vectors=np.ones((1, 32), np.float32))
    read: list[tuple[set[int], Vectors]] = []
    beside = Validation._query_history_vectors

    def heard(self: Validation, *args: object) -> tuple[Vectors, Vectors, Vectors]:
        found = beside(self, *args)  # type: ignore[arg-type]
        read.append((set((self.ends - at).tolist()), found[0]))
        return found

    monkeypatch.setattr(Validation, "_query_history_vectors", heard)
    dataclasses.replace(validation, timeline=timeline, pairs=pairs, query_at=at).fit_query_history_mix(towers, None)
    assert [ends for ends, _ in read] == [{1}, {0}]
    assert all(not users[0].any() and users[1:].any(axis=1).all() for _, users in read)


def test_validation_leaves_the_identity_weight_that_it_found_best(
    untrained: tuple[HistoryTowers, Callable[..., Validation]],
) -> None:
    towers, validation = copy.deepcopy(untrained[0]), untrained[1]
    with torch.no_grad():  # what is far too loud drowns the content: the lightest weight hears most of it
        towers.head.identity.mul_(30)
    recalls = {}
    with torch.inference_mode():
        for weight in (*IDENTITY_WEIGHTS, None):
            recalls[weight] = validation(identity_weight=weight)(towers)
            if weight is not None:
                assert float(towers.history.identity_scale * towers.scale) == pytest.approx(weight)
        found = round(float(towers.history.identity_scale * towers.scale), 2)
    assert recalls[found] == recalls[None] == max(recalls.values())
    assert len(set(recalls.values())) > 1


def test_the_closed_form_is_heard_where_it_finds_more_and_not_where_it_is_noise(
    untrained: tuple[HistoryTowers, Callable[..., Validation]],
) -> None:
    towers, validation = copy.deepcopy(untrained[0]), untrained[1]()
    with torch.inference_mode():
        before = validation(towers)
    n, each, none = GROUPS * SIZE, np.eye(GROUPS * SIZE, dtype=np.float32), np.empty((0, 0), np.float32)
    step = np.arange(n) // SIZE * SIZE + (np.arange(n) % SIZE + 1) % SIZE  # where a walk goes on
    weight, recall = validation.fit_linear_weight(
        towers, ItemFactors(np.eye(n, dtype="f")[step], np.eye(n, dtype="f"), none)
    )
    assert weight > 0
    assert recall > before + 0.2
    elsewhere = each[(step + 3 * SIZE) % n]  # nothing but other groups
    assert validation.fit_linear_weight(towers, ItemFactors(elsewhere, each, none)) == (0, before)
