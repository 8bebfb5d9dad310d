"""Items as they are indexed have the vectors that were trained: numpy and OpenVINO against torch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from random_towers import CONFIG, DIM, FACTORS, FEATURES, IDENTITY, ITEMS, LINEAR, TEXT_DIM
from retrieval.topk import Vectors
from retrieval.towers.sequence_model import ItemHead
from retrieval.towers.serving import ItemTower, Towers, TowersConfig, unit

pytestmark = pytest.mark.usefixtures("one_thread")


def by_torch(head: ItemHead, text: Vectors, items: pa.Table) -> Vectors:
    """Vectors, factors and biases of known items."""
    codes, rows = (
        FEATURES.category_codes(items),
        torch.tensor([CONFIG.item_ids.index(i) for i in items["item_id"].to_pylist()]),
    )
    price, flat = torch.from_numpy(FEATURES.price_codes(items)), torch.from_numpy(codes.rows)
    with torch.no_grad():
        vectors = head(torch.from_numpy(text), price, (flat, torch.from_numpy(codes.indptr[:-1])), rows)
        parts = (vectors, FACTORS["target"][rows], head.bias[rows], FACTORS["source"][rows])
        return np.column_stack([part.numpy() for part in parts])


def test_item_vectors_equal_the_trained_head_with_its_bias(
    head: ItemHead, item_vectors: Vectors, text_vectors: Vectors
) -> None:
    assert item_vectors.dtype == np.float32
    np.testing.assert_allclose(item_vectors, by_torch(head, text_vectors, ITEMS), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(item_vectors[:, :DIM], axis=1), 1, atol=1e-5)


def test_a_part_of_the_catalogue_in_another_order_has_the_same_vectors(
    towers: Towers, item_vectors: Vectors, text_vectors: Vectors
) -> None:
    rows = [4, 1, 2]
    np.testing.assert_allclose(towers.item.vectors(text_vectors[rows], ITEMS.take(rows)), item_vectors[rows], atol=1e-6)
    np.testing.assert_allclose(towers.item.vectors(text_vectors[2:5], ITEMS.slice(2, 3)), item_vectors[2:5], atol=1e-6)
    assert towers.item.vectors(text_vectors[:0], ITEMS.slice(0, 0)).shape == (0, CONFIG.index_dim + LINEAR)


def test_an_unknown_item_has_text_price_and_category_a_guessed_identity_and_the_mean_bias(
    head: ItemHead, towers: Towers, text_vectors: Vectors
) -> None:
    new = ITEMS.set_column(0, "item_id", pa.array(["x", "y", "z", "u", "v", "a"]))
    bare = ItemHead(torch.zeros(DIM, TEXT_DIM), FEATURES, ITEMS.num_rows, identity=IDENTITY, residual_drop=0.0).eval()
    bare.load_state_dict(head.state_dict() | {"residual": torch.zeros(ITEMS.num_rows, DIM)})
    found = towers.item.vectors(text_vectors, new)
    np.testing.assert_allclose(found[:5, :DIM], by_torch(bare, text_vectors, ITEMS)[:5, :DIM], atol=1e-5)
    told = FACTORS["identity_from_content"].numpy()
    identity = slice(DIM, DIM + IDENTITY)
    np.testing.assert_allclose(found[:5, identity], found[:5, :DIM] @ told[:-1] + told[-1], atol=1e-5)
    np.testing.assert_allclose(found[5, identity], head.identity[0].detach(), atol=1e-6)
    bias = head.bias.detach().numpy()
    np.testing.assert_allclose(found[:, CONFIG.index_dim - 1], [*[bias.mean()] * 5, bias[0]], atol=1e-6)


def test_an_unknown_item_has_the_factors_that_its_text_guesses(towers: Towers, text_vectors: Vectors) -> None:
    new = ITEMS.set_column(0, "item_id", pa.array(["x", "y", "z", "u", "v", "a"]))
    found = towers.item.vectors(text_vectors, new)
    told = FACTORS["factors_from_text"].numpy()
    guessed = text_vectors @ told[:-1] + told[-1]
    takes, gives = slice(DIM + IDENTITY, DIM + IDENTITY + LINEAR), slice(CONFIG.index_dim, None)
    np.testing.assert_allclose(found[:5, gives], guessed[:5, :LINEAR], atol=1e-5)
    np.testing.assert_allclose(found[:5, takes], guessed[:5, LINEAR:], atol=1e-5)
    np.testing.assert_array_equal(found[5, gives], FACTORS["source"][0].numpy())


def test_without_price_and_category_columns_both_are_unknown(
    head: ItemHead, towers: Towers, text_vectors: Vectors
) -> None:
    bare = ITEMS.select(["item_id", "title"])
    np.testing.assert_allclose(towers.item.vectors(text_vectors, bare), by_torch(head, text_vectors, bare), atol=1e-5)


def test_a_category_as_a_string_is_read_as_a_list_of_one(towers: Towers, text_vectors: Vectors) -> None:
    one = [["k"], ["s"], None, ["t"], ["s"], ["s"]]
    as_list = ITEMS.set_column(3, "category", pa.array(one, pa.list_(pa.string())))
    as_text = ITEMS.set_column(3, "category", pa.array([names and names[0] for names in one]))
    np.testing.assert_array_equal(
        towers.item.vectors(text_vectors, as_text), towers.item.vectors(text_vectors, as_list)
    )


def test_without_an_item_head_the_text_vector_is_the_items(text_vectors: Vectors) -> None:
    config = TowersConfig(dim=TEXT_DIM, text_dim=TEXT_DIM, rendering="any")
    assert ItemTower(config, {}).vectors(text_vectors, ITEMS) is text_vectors
    assert config.index_dim == TEXT_DIM


def test_unit_keeps_a_zero_row_and_scales_by_the_first_numbers() -> None:
    found = unit(np.array([[3.0, 4.0, 10.0], [0.0, 0.0, 0.0]], np.float32), 2)
    np.testing.assert_allclose(found, [[0.6, 0.8, 2.0], [0, 0, 0]], atol=1e-6)
    assert unit(np.ones((2, 4))).dtype == np.float32
