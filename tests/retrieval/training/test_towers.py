"""A pair of towers from a data set, whole, with a tiny random encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from retrieval.data.dataset import DataSet
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit, split_events
from retrieval.data.timeline import Timeline
from retrieval.metrics.ranking import recall_at
from retrieval.settings import HistoryConfig
from retrieval.text.rendering import item_texts
from retrieval.topk import CSR, Hits, exact_topk
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.serving import HISTORY, TEXT, Towers
from retrieval.training.towers import TextPart, TowerData, TrainedTowers, new_towers
from retrieval.training.validation import IDENTITY_WEIGHTS
from retrieval.training.windows import Windows
from walks import ITEMS, SIZE, Shop, config_of, fit, walks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedTowers:
    """Towers of the shop, whose text encoder is left as it was."""
    folder = tmp_path_factory.mktemp("trained")
    return fit(TowerData(shop, split, None), folder, config_of(tiny_encoder_folder))


@pytest.fixture(scope="module")
def towers(trained: TrainedTowers, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    return Towers.open(trained.folder, device="cpu", cache=tmp_path_factory.mktemp("graphs"))


def answers(towers: Towers, trained: TrainedTowers, data: DataSet, requests: Requests, k: int) -> Hits:
    """The k best items of each request by the towers as they are used, what was bought before left out."""
    assert data.events is not None
    timeline, position = Timeline.from_events(data.events)
    items = towers.item.vectors(trained.text_vectors, data.items)
    ends = position[requests.end]
    batch = timeline.recoded(towers.config.kinds).batch(requests.user, ends, 6)
    users, searched = towers.user.histories(batch, items), items[:, : towers.config.index_dim]
    return exact_topk(users, searched, k, exclude=timeline.items_before(requests.user, ends))


def recall(hits: Hits, requests: Requests, k: int) -> float:
    targets = CSR(requests.target_ptr, requests.target_item.astype(np.int64))
    return float(np.mean(recall_at(hits, targets, k)))


def test_towers_learn_what_follows_what_far_beyond_popularity(
    shop: DataSet, split: EventSplit, trained: TrainedTowers, towers: Towers
) -> None:
    assert shop.events is not None
    requests = split.folds["test"]
    counts = np.bincount(shop.events.item[split.train], minlength=shop.n_items).astype(np.float32)
    popular = exact_topk(np.ones((len(requests), 1), np.float32), counts[:, None], 5)
    found = recall(answers(towers, trained, shop, requests, 5), requests, 5)
    assert found > 0.6
    assert recall(popular, requests, 5) < 0.2


def test_the_recall_that_validation_found_is_that_of_the_towers_as_they_are_used(
    shop: DataSet, split: EventSplit, trained: TrainedTowers, towers: Towers
) -> None:
    requests = split.folds["tower_valid"]
    found = recall(answers(towers, trained, shop, requests, 20), requests, 20)
    assert trained.figures == {"history_recall@20": pytest.approx(found, abs=1 / len(requests))}


def test_the_saved_text_part_is_the_librarys_and_gives_the_same_vectors(
    shop: DataSet, trained: TrainedTowers, towers: Towers
) -> None:
    model = SentenceTransformer(str(trained.folder / TEXT), device="cpu")
    texts = item_texts(shop.items)
    by_library = model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(trained.text_vectors, by_library, atol=1e-5)
    np.testing.assert_allclose(towers.encode_items(texts), by_library, atol=1e-5)


def test_the_towers_say_what_they_know(shop: DataSet, trained: TrainedTowers, towers: Towers) -> None:
    assert towers.config.item_ids == shop.item_ids
    assert towers.config.kinds == ("purchase", "query")
    assert towers.config.index_dim == 16 + 8 + 1
    assert towers.user.history is not None
    assert not list((trained.folder.parent / "work").rglob("*"))  # nothing is left of the checkpoints


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_identity_counts_as_it_is_told_to(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path, weight: float
) -> None:
    config = config_of(tiny_encoder_folder, epochs=1)
    config = config.model_copy(update={"history": config.history.model_copy(update={"identity_weight": weight})})
    made = Towers.open(fit(TowerData(shop, split, None), tmp_path, config, text=untuned).folder, device="cpu")
    assert shop.events is not None
    timeline, position = Timeline.from_events(shop.events)
    batch = timeline.recoded(made.config.kinds).batch(np.array([0, 1]), position[shop.events.offsets[1:3]], 6)
    users = made.user.histories(batch, made.item.vectors(untuned.vectors, shop.items))
    assert bool(users[:, 16:24].any()) == (weight > 0)


def test_towers_without_an_identity_are_trained_saved_and_opened(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    config = config_of(tiny_encoder_folder, epochs=1)
    config = config.model_copy(update={"history": config.history.model_copy(update={"identity": 0, "linear": 0})})
    trained = fit(TowerData(shop, split, None), tmp_path, config, text=untuned)
    made = Towers.open(trained.folder, device="cpu")
    assert made.item.vectors(untuned.vectors, shop.items).shape == (shop.n_items, 17)
    assert made.user.queries(["red"]).shape == (1, 17)


def test_towers_that_were_not_validated_have_the_default_identity_weight(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    trained = fit(TowerData(shop, split, None), tmp_path, config_of(tiny_encoder_folder, epochs=0), text=untuned)
    scale = load_file(trained.folder / HISTORY)["identity_scale"]
    assert float(scale) == pytest.approx(IDENTITY_WEIGHTS[1] * 0.2, rel=1e-4)  # of the temperature


def test_what_was_never_taken_is_read_as_what_comes_later_is(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    more = {"item_id": ["never"], "title": ["red garden a"], "price": [2.0]}
    data = load_shop(items={name: [*ITEMS[name], *more[name]] for name in more}, events=walks(200))
    trained = fit(TowerData(data, split_events(data), None), tmp_path, config_of(tiny_encoder_folder, epochs=2))
    made = Towers.open(trained.folder, device="cpu")
    same = data.items.slice(data.n_items - 1)
    as_new = same.set_column(0, "item_id", pa.array(["new"]))
    text = trained.text_vectors[-1:]
    np.testing.assert_allclose(
        made.item.vectors(text, same)[:, :24], made.item.vectors(text, as_new)[:, :24], atol=1e-5
    )
    bias = made.item.vectors(trained.text_vectors, data.items)[:, made.config.index_dim - 1]
    assert bias[-1] == pytest.approx(bias[:-1].mean(), abs=1e-6)
    assert bias.std() > 1e-4
    taken = data.items.slice(0, 1)
    as_new = taken.set_column(0, "item_id", pa.array(["new"]))
    text = trained.text_vectors[:1]
    apart = made.item.vectors(text, taken)[:, :24] - made.item.vectors(text, as_new)[:, :24]
    assert np.abs(apart).max() > 0.01  # what was learned of an item is more than what is guessed


@pytest.mark.parametrize(
    ("asked", "has_queries", "learns"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_items_keep_to_their_texts_where_queries_look_for_them(
    untuned: TextPart, shop: DataSet, split: EventSplit, asked: bool | None, has_queries: bool, learns: bool
) -> None:
    assert shop.events is not None
    windows = Windows.build(shop.events, split.train, split.train_target, 6)
    config = HistoryConfig(dim=16, width=16, identity=8, longest=6, residual=asked)
    towers = new_towers(untuned.vectors, ItemFeatures.fit(shop.items), windows, config, has_queries=has_queries, seed=1)
    assert towers.head.residual.requires_grad == learns


def test_the_closed_form_is_in_the_towers_at_the_weight_that_was_found(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    told: list[str] = []
    config = config_of(tiny_encoder_folder, epochs=1)  # so few that much is left to find
    trained = fit(TowerData(shop, split, None), tmp_path, config, text=untuned, told=told)
    made = Towers.open(trained.folder, device="cpu")
    assert made.config.linear == 12
    weight, recall = told[-1].removeprefix("item-to-item model: weight ").split(", recall@20 ")
    assert float(weight) > 0
    assert float(recall) == pytest.approx(trained.figures["history_recall@20"], abs=1e-4)
    items = made.item.vectors(untuned.vectors, shop.items)
    assert items.shape == (shop.n_items, 16 + 8 + 12 + 1 + 12)
    weights = items[:, 37:] @ items[:, 24:36].T
    often = np.arange(5 * SIZE)  # items of the groups that sold most
    step = often // SIZE * SIZE + (often % SIZE + 1) % SIZE
    assert np.mean(weights[often, step]) > 3 * np.abs(weights).mean()  # twelve dimensions for twenty groups
