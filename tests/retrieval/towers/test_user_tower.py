"""Histories and queries as they are read have the vectors that were trained: numpy and OpenVINO against torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from random_towers import CONFIG, DIM, FACTORS, IDENTITY, ITEMS, LINEAR, LONGEST, TEXT_DIM, some_histories
from retrieval.data.events import Events
from retrieval.data.timeline import HistoryBatch, Timeline
from retrieval.text.rendering import rendering_fingerprint
from retrieval.topk import Vectors
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.towers.serving import TEXT, Towers, TowersConfig, write_config

pytestmark = pytest.mark.usefixtures("one_thread")
Story: TypeAlias = Callable[[Sequence[Sequence[tuple[int, ...]]]], Events]


def read_by_torch(model: HistoryModel, batch: HistoryBatch, item_vectors: Vectors) -> Vectors:
    vectors = np.where(batch.present[..., None], item_vectors[np.maximum(batch.items, 0), : DIM + IDENTITY], 0)
    with torch.no_grad():
        read = model(*(torch.from_numpy(array) for array in (vectors, batch.kinds, batch.gaps, batch.present)))
    return read[:, -1].numpy()


def test_items_of_a_history_are_heard_the_less_the_more_visits_came_after(
    towers: Towers, item_vectors: Vectors
) -> None:
    batch = HistoryBatch(
        np.array([[5, 0, 1, 2]]), np.full((1, 4), -1), np.ones((1, 4), np.int64), np.array([[0, 3, 0, 5]]),
        np.array([[False, True, True, True]]),
    )  # fmt: skip
    found = towers.user.histories(batch, item_vectors)[0, DIM + IDENTITY : DIM + IDENTITY + LINEAR]
    gives = FACTORS["source"].numpy()  # the first two in one visit, the third a visit later
    np.testing.assert_allclose(found, (0.5 * gives[0] + 0.5 * gives[1] + gives[2]) / 2, atol=1e-6)


@pytest.mark.parametrize("width", range(1, LONGEST + 1))
def test_histories_equal_the_trained_model_at_every_length(
    towers: Towers, model: HistoryModel, item_vectors: Vectors, width: int
) -> None:
    batch = some_histories([width, 1, max(1, width - 1), width][: 1 + width % 4], width, seed=width)
    found = towers.user.histories(batch, item_vectors)
    np.testing.assert_allclose(found[:, : DIM + IDENTITY], read_by_torch(model, batch, item_vectors), atol=1e-5)
    assert (found[:, -1] == 1).all()


def test_padding_and_the_rest_of_the_batch_never_change_a_user(towers: Towers, item_vectors: Vectors) -> None:
    batch = some_histories([2, 6, 0, 4], LONGEST)
    together = towers.user.histories(batch, item_vectors)
    for row, length in enumerate([2, 6, 0, 4]):
        alone = HistoryBatch(*(array[row : row + 1, LONGEST - max(1, length) :] for array in batch))
        np.testing.assert_allclose(towers.user.histories(alone, item_vectors)[0], together[row], atol=1e-5)


def test_an_empty_history_is_all_zero(towers: Towers, item_vectors: Vectors) -> None:
    assert not towers.user.histories(some_histories([0, 0], 3), item_vectors).any()


def test_of_a_longer_history_the_newest_events_are_read(towers: Towers, item_vectors: Vectors) -> None:
    batch = some_histories([9, 3], 9)
    newest = HistoryBatch(*(array[:, -LONGEST:] for array in batch))
    np.testing.assert_allclose(
        towers.user.histories(batch, item_vectors), towers.user.histories(newest, item_vectors), atol=1e-6
    )


def test_events_without_a_vector_are_passed_over(towers: Towers, item_vectors: Vectors) -> None:
    whole = some_histories([4], 6)
    items = whole.items.copy()
    items[0, [3, 5]] = -1  # of places 2 to 5, the second and the newest are of items that the index lacks
    left = HistoryBatch(*(array[:, [2, 4]] for array in whole))
    np.testing.assert_allclose(
        towers.user.histories(whole._replace(items=items), item_vectors),
        towers.user.histories(left, item_vectors),
        atol=1e-5,
    )


def test_query_vectors_are_events_with_the_querys_vector(
    towers: Towers, model: HistoryModel, item_vectors: Vectors
) -> None:
    queries = towers.user.queries(["red mug", "steel drill"])
    batch = some_histories([3, 3], 3)
    asked = batch._replace(items=batch.items.copy(), queries=batch.queries.copy())
    asked.items[0, 1], asked.queries[0, 1] = -1, 1
    pretend = batch._replace(items=batch.items.copy())
    pretend.items[0, 1] = len(item_vectors)  # as if the query were an item
    by_hand = read_by_torch(model, pretend, np.vstack([item_vectors[:, : CONFIG.index_dim], queries[1]]))
    found = towers.user.histories(asked, item_vectors, queries)
    np.testing.assert_allclose(found[:, : DIM + IDENTITY], by_hand, atol=1e-5)


@pytest.mark.parametrize("queries", [None, np.empty((0, CONFIG.index_dim), np.float32)])
def test_query_vectors_without_vectors_are_passed_over(
    towers: Towers, item_vectors: Vectors, queries: Vectors | None
) -> None:
    batch = some_histories([3], 3)
    asked = batch._replace(items=batch.items.copy(), queries=batch.queries.copy())
    asked.items[0, 1], asked.queries[0, 1] = -1, 1
    left = HistoryBatch(*(array[:, [0, 2]] for array in batch))
    np.testing.assert_allclose(
        towers.user.histories(asked, item_vectors, queries), towers.user.histories(left, item_vectors), atol=1e-5
    )


def test_kinds_are_read_by_name_whatever_codes_the_shop_gives_them(
    towers: Towers, item_vectors: Vectors, make_events: Story
) -> None:
    events = make_events([[(0, 0, 1), (1, 1, 1), (2, 1, 2)]])
    other = replace(events, kinds=("view", "purchase"), kind=1 - events.kind)
    found = []
    for told in (events, other, replace(events, kinds=("purchase", "look"))):
        timeline, position = Timeline.from_events(told)
        batch = timeline.recoded(CONFIG.kinds).batch(np.array([0]), position[[3]], LONGEST)
        found.append(towers.user.histories(batch, item_vectors))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-3  # a kind that was not there in training has a code of its own


def test_queries_are_projected_and_lean_neither_on_identity_nor_on_the_bias(head: ItemHead, towers: Towers) -> None:
    found = towers.user.queries(["red mug", ""])
    text = torch.from_numpy(towers.encoder.encode(["red mug", ""], "query"))
    np.testing.assert_allclose(found[:, :DIM], head.queries(text).detach().numpy()[:, :DIM], atol=1e-5)
    assert found.shape[1] == CONFIG.index_dim
    assert not found[:, DIM:].any()


def test_a_query_leans_towards_its_users_history(towers: Towers, item_vectors: Vectors) -> None:
    queries = towers.user.queries(["red mug", "red mug"])
    histories = towers.user.histories(some_histories([4, 0], 4), item_vectors)
    both = towers.user.combine(queries, histories)
    np.testing.assert_allclose(both[1], queries[1], atol=1e-6)  # an empty history changes nothing
    closer = (both[0, :DIM] @ histories[0, :DIM]) - (queries[0, :DIM] @ histories[0, :DIM])
    assert closer > 0
    np.testing.assert_allclose(np.linalg.norm(both[:, :DIM], axis=1), 1, atol=1e-5)


def test_without_a_history_part_the_mean_of_the_events_stands_for_the_user(
    tiny_encoder_folder: Path, towers: Towers, tmp_path: Path, graphs: Path
) -> None:
    shutil.copytree(tiny_encoder_folder, tmp_path / TEXT)
    write_config(tmp_path, TowersConfig(dim=TEXT_DIM, text_dim=TEXT_DIM, rendering=rendering_fingerprint()))
    bare = Towers.open(tmp_path, device="cpu", cache=graphs)
    items = bare.item.vectors(bare.encode_items(ITEMS["title"].to_pylist()), ITEMS)
    batch = some_histories([3, 0], 4)
    found = bare.user.histories(batch, items)
    assert bare.user.history is None
    assert towers.user.history is not None
    by_hand = items[batch.items[0, 1:]].sum(axis=0)
    np.testing.assert_allclose(found[0], by_hand / np.linalg.norm(by_hand), atol=1e-5)
    assert not found[1].any()
    np.testing.assert_allclose(bare.user.queries(["lamp"]), bare.encoder.encode(["lamp"], "query"))
