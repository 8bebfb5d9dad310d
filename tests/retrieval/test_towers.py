"""The towers as they are used say what was trained: numpy and OpenVINO against torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact
from retrieval.events import Events
from retrieval.history import HistoryModel, ItemHead
from retrieval.item_features import ItemFeatures
from retrieval.text import rendering_fingerprint
from retrieval.timeline import GAP_BUCKETS, QUERY_KIND, HistoryBatch, Timeline
from retrieval.topk import Vectors
from retrieval.towers import (
    HEAD,
    HISTORY,
    TEXT,
    ItemTower,
    Towers,
    TowersConfig,
    read_config,
    unit,
    write_config,
)

pytestmark = pytest.mark.usefixtures("one_thread")
Story: TypeAlias = Callable[[Sequence[Sequence[tuple[int, ...]]]], Events]
DIM, IDENTITY, LINEAR, TEXT_DIM, LONGEST, KINDS = 8, 4, 3, 32, 6, ("purchase", "view", QUERY_KIND)
ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["red mug", "blue mug", "steel drill", "hair mask", "lamp", "oil"],
        "price": pa.array([3.0, 4.0, 80.0, None, 20.0, 9.0]),
        "category": pa.array([["k"], ["k", "s"], ["t", "k"], None, ["s"], ["s"]]),
    }
)
FEATURES = ItemFeatures(price_edges=(3.5, 10.0, 50.0), categories=("k", "s"))
CONFIG = TowersConfig(
    dim=DIM,
    text_dim=TEXT_DIM,
    rendering=rendering_fingerprint(),
    features={"price_edges": list(FEATURES.price_edges), "categories": list(FEATURES.categories)},
    item_ids=tuple(ITEMS["item_id"].to_pylist()),
    kinds=KINDS,
    identity=IDENTITY,
    linear=LINEAR,
    linear_decay=0.5,
    history={"width": 8, "layers": 2, "heads": 2, "longest": LONGEST, "gated": 0},
)


FACTORS = {
    name: torch.randn(size, generator=torch.Generator().manual_seed(9))
    for name, size in {
        "gives": (ITEMS.num_rows, LINEAR), "takes": (ITEMS.num_rows, LINEAR),
        "factors_from_text": (TEXT_DIM + 1, 2 * LINEAR), "identity_from_content": (DIM + 1, IDENTITY),
    }.items()
}  # fmt: skip


def drawn(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with something in every part."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


@pytest.fixture(scope="module")
def head() -> ItemHead:
    made = drawn(
        ItemHead(torch.zeros(DIM, TEXT_DIM), FEATURES, ITEMS.num_rows, identity=IDENTITY, residual_drop=0.2), 1
    )
    assert isinstance(made, ItemHead)
    return made


@pytest.fixture(scope="module")
def model() -> HistoryModel:
    made = drawn(
        HistoryModel(
            DIM, len(KINDS), identity=IDENTITY, width=8, layers=2, heads=2, dropout=0.5, longest=LONGEST, gated=False
        ),
        2,
    )
    assert isinstance(made, HistoryModel)
    made.identity_scale.fill_(0.3)
    return made


@pytest.fixture(scope="module")
def folder(
    head: ItemHead, model: HistoryModel, tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a training leaves."""
    made = tmp_path_factory.mktemp("towers")
    shutil.copytree(tiny_encoder_folder, made / TEXT)
    save_file(head.state_dict() | FACTORS, made / HEAD)
    save_file(model.state_dict(), made / HISTORY)
    write_config(made, CONFIG)
    return made


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def towers(folder: Path, graphs: Path) -> Towers:
    return Towers.open(folder, device="cpu", cache=graphs)


@pytest.fixture(scope="module")
def text_vectors(towers: Towers) -> Vectors:
    return towers.encode_items(ITEMS["title"].to_pylist())


@pytest.fixture(scope="module")
def item_vectors(towers: Towers, text_vectors: Vectors) -> Vectors:
    return towers.item.vectors(text_vectors, ITEMS)


def by_torch(head: ItemHead, text: Vectors, items: pa.Table) -> Vectors:
    """Vectors, factors and biases of known items."""
    codes, rows = (
        FEATURES.category_codes(items),
        torch.tensor([CONFIG.item_ids.index(i) for i in items["item_id"].to_pylist()]),
    )
    price, flat = torch.from_numpy(FEATURES.price_codes(items)), torch.from_numpy(codes.rows)
    with torch.no_grad():
        vectors = head(torch.from_numpy(text), price, (flat, torch.from_numpy(codes.indptr[:-1])), rows)
        parts = (vectors, FACTORS["takes"][rows], head.bias[rows], FACTORS["gives"][rows])
        return np.column_stack([part.numpy() for part in parts])


def some_histories(lengths: Sequence[int], width: int, seed: int = 0) -> HistoryBatch:
    """Random histories of some lengths, padded at the front to one width."""
    rng, shape = np.random.default_rng(seed), (len(lengths), width)
    present = np.arange(width, 0, -1) <= np.array(lengths)[:, None]
    return HistoryBatch(
        np.where(present, rng.integers(0, ITEMS.num_rows, shape), -1),
        np.full(shape, -1, np.int64),
        np.where(present, rng.integers(0, len(KINDS) + 1, shape), 0),
        np.where(present, rng.integers(0, GAP_BUCKETS, shape), 0),
        present,
    )


def read_by_torch(model: HistoryModel, batch: HistoryBatch, item_vectors: Vectors) -> Vectors:
    vectors = np.where(batch.present[..., None], item_vectors[np.maximum(batch.items, 0), : DIM + IDENTITY], 0)
    with torch.no_grad():
        read = model(*(torch.from_numpy(array) for array in (vectors, batch.kinds, batch.gaps, batch.present)))
    return read[:, -1].numpy()


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
    np.testing.assert_array_equal(found[5, gives], FACTORS["gives"][0].numpy())


def test_items_of_a_history_are_heard_the_less_the_more_visits_came_after(
    towers: Towers, item_vectors: Vectors
) -> None:
    batch = HistoryBatch(
        np.array([[5, 0, 1, 2]]), np.full((1, 4), -1), np.ones((1, 4), np.int64), np.array([[0, 3, 0, 5]]),
        np.array([[False, True, True, True]]),
    )  # fmt: skip
    found = towers.user.histories(batch, item_vectors)[0, DIM + IDENTITY : DIM + IDENTITY + LINEAR]
    gives = FACTORS["gives"].numpy()  # the first two in one visit, the third a visit later
    np.testing.assert_allclose(found, (0.5 * gives[0] + 0.5 * gives[1] + gives[2]) / 2, atol=1e-6)


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


def testquery_vectors_are_events_with_the_querys_vector(
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
def testquery_vectors_without_vectors_are_passed_over(
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
    both = towers.user.both(queries, histories)
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
    assert not bare.user.reads_history
    assert towers.user.reads_history
    by_hand = items[batch.items[0, 1:]].sum(axis=0)
    np.testing.assert_allclose(found[0], by_hand / np.linalg.norm(by_hand), atol=1e-5)
    assert not found[1].any()
    np.testing.assert_allclose(bare.user.queries(["lamp"]), bare.encoder.encode(["lamp"], "query"))


def test_kept_graphs_serve_the_next_opening(folder: Path, graphs: Path, towers: Towers, item_vectors: Vectors) -> None:
    assert {path.name for path in graphs.glob("*.xml")} == {"encoder.xml", "history.xml"}
    batch = some_histories([5, 2], 5)
    again = Towers.open(folder, device="cpu", cache=graphs)
    np.testing.assert_allclose(
        again.user.histories(batch, item_vectors), towers.user.histories(batch, item_vectors), atol=1e-6
    )
    assert again.fingerprint == towers.fingerprint


@settings(max_examples=50, deadline=None)
@given(
    edges=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    names=st.lists(st.text(max_size=5), max_size=4),
    ids=st.lists(st.text(max_size=5), max_size=4),
    has_history=st.booleans(),
)
def test_a_config_survives_its_json(
    tmp_path_factory: pytest.TempPathFactory, edges: list[float], names: list[str], ids: list[str], has_history: bool
) -> None:
    config = replace(
        CONFIG,
        features={"price_edges": edges, "categories": names},
        item_ids=tuple(ids),
        kinds=tuple(names),
        history=CONFIG.history if has_history else {},
    )
    folder = tmp_path_factory.mktemp("config")
    write_config(folder, config)
    assert read_config(folder) == config


def test_towers_of_another_rendering_are_stale(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    write_config(broken, replace(CONFIG, rendering="0123456789abcdef"))
    with pytest.raises(StaleArtefact, match="run: shortlist train retriever") as caught:
        Towers.open(broken, device="cpu")
    assert str(broken) in str(caught.value)
    assert "0123456789abcdef" in str(caught.value)


@pytest.mark.parametrize("missing", ["towers.json", HEAD, HISTORY])
def test_a_missing_part_is_named(folder: Path, tmp_path: Path, missing: str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    (broken / missing).unlink()
    with pytest.raises(BadBundle, match=missing):
        Towers.open(broken, device="cpu")


@pytest.mark.parametrize("part", [HEAD, HISTORY])
def test_a_torn_part_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    (broken / part).write_bytes((broken / part).read_bytes()[:100])
    with pytest.raises(CorruptBundle, match=part):
        Towers.open(broken, device="cpu")


@pytest.mark.parametrize(
    "change", [{"novelty": 1}, {"item_ids": None}, {"kinds": 3}, "not json", {"history": {"longest": 5}}]
)
def test_a_config_of_another_version_is_named(folder: Path, tmp_path: Path, change: dict[str, object] | str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    about = broken / "towers.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(about.read_text("utf-8")) | change)
    about.write_text(text, "utf-8")
    with pytest.raises(BadBundle, match=r"towers\.json is not"):
        Towers.open(broken, device="cpu")


def test_unit_keeps_a_zero_row_and_scales_by_the_first_numbers() -> None:
    found = unit(np.array([[3.0, 4.0, 10.0], [0.0, 0.0, 0.0]], np.float32), 2)
    np.testing.assert_allclose(found, [[0.6, 0.8, 2.0], [0, 0, 0]], atol=1e-6)
    assert unit(np.ones((2, 4))).dtype == np.float32
