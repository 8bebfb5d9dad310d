"""A pair of towers from a data set, whole, with a tiny random encoder."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from retrieval import train as train_module
from retrieval.config import HistoryConfig, RetrievalConfig, TextConfig
from retrieval.dataset import DataSet
from retrieval.encoder import TextEncoder
from retrieval.errors import BadConfig
from retrieval.fingerprint import folder_fingerprint
from retrieval.item_features import ItemFeatures
from retrieval.linear import ItemFactors
from retrieval.metrics import recall_at
from retrieval.requests import Requests
from retrieval.split import EventSplit, split_events, split_judgements
from retrieval.text import item_texts
from retrieval.timeline import Timeline
from retrieval.topk import CSR, Hits, Vectors, exact_topk
from retrieval.towers import HEAD, HISTORY, TEXT, Towers
from retrieval.train import (
    TextPart,
    TowerData,
    TrainedTowers,
    history_epochs,
    new_towers,
    target_weights,
    train_towers,
)
from retrieval.train_history import HistoryTowers, QueryPairs, make_catalogue
from retrieval.validation import IDENTITY_WEIGHTS, Beside, Validation
from retrieval.windows import Windows

pytestmark = pytest.mark.usefixtures("one_thread")
Shop: TypeAlias = Callable[..., DataSet]
GROUPS, SIZE, USERS, BOUGHT = 20, 6, 600, 5
WORDS = ("red", "blue", "green", "large", "small", "steel", "wood", "argan", "kitchen", "garden")
ITEMS = {
    "item_id": [f"i{row:03}" for row in range(GROUPS * SIZE)],
    "title": [f"{WORDS[row // 2 % 10]} {WORDS[row % 7]} {'abcdefghij'[row % 10]}" for row in range(GROUPS * SIZE)],
    "price": [float(1 + row % 9) for row in range(GROUPS * SIZE)],
}


def walks(users: int = USERS) -> dict[str, object]:
    """Each shopper walks around one group of items, one after the other; some groups are far more popular."""
    rng, weights = np.random.default_rng(5), 1 / np.arange(3, GROUPS + 3)
    group, start = rng.choice(GROUPS, users, p=weights / weights.sum()), rng.integers(0, SIZE, users)
    items = [
        SIZE * int(g) + (int(s) + step) % SIZE for g, s in zip(group, start, strict=True) for step in range(BOUGHT)
    ]
    times = [1_600_000_000 + 86_400 * step for _ in range(users) for step in range(BOUGHT)]
    return {
        "user_id": [f"u{user:04}" for user in range(users) for _ in range(BOUGHT)],
        "item_id": [ITEMS["item_id"][row] for row in items],
        "event": ["purchase"] * (users * BOUGHT),
        "timestamp": pa.array(times, pa.timestamp("s")),
    }


QUERIES = {"query_id": [f"q{row}" for row in range(60)], "text": [f"{WORDS[row % 10]} {row}" for row in range(60)]}
JUDGEMENTS = {
    "query_id": [f"q{row}" for row in range(60) for _ in range(2)],
    "item_id": [ITEMS["item_id"][(7 * row + other) % 120] for row in range(60) for other in range(2)],
    "grade": [float(3 - other) for _ in range(60) for other in range(2)],
}


def config_of(folder: Path, *, examples: int = 0, epochs: int = 20) -> RetrievalConfig:
    history = HistoryConfig(
        dim=16, width=16, identity=8, linear=12, longest=6, dropout=0.1, residual_drop=0.0, learning_rate=0.02,
        weight_decay=0.0, temperature=0.2, batch_positions=250, epochs=epochs, evaluations=5,
    )  # fmt: skip
    text = TextConfig(model=str(folder), examples=examples, batch=16, learning_rate=1e-3, max_tokens=16)
    return RetrievalConfig(text=text, history=history)


@pytest.fixture(scope="module")
def shop(load_shop: Shop) -> DataSet:
    return load_shop(items=ITEMS, events=walks())


@pytest.fixture(scope="module")
def split(shop: DataSet) -> EventSplit:
    return split_events(shop)


@pytest.fixture(scope="module")
def trained(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedTowers:
    """Towers of the shop, whose text part is left as it was."""
    folder = tmp_path_factory.mktemp("trained")
    return fit(TowerData(shop, split, None), folder, config_of(tiny_encoder_folder))


@pytest.fixture(scope="module")
def towers(trained: TrainedTowers, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    return Towers.open(trained.folder, device="cpu", cache=tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def untuned(tiny_encoder_folder: Path, shop: DataSet) -> TextPart:
    """The encoder as it is, taken as a text part by trainings that are about something else."""
    encoder = TextEncoder.load(tiny_encoder_folder, runtime="torch", device="cpu")
    return TextPart(tiny_encoder_folder, encoder, encoder.encode(item_texts(shop.items)))


def fit(
    source: TowerData,
    root: Path,
    config: RetrievalConfig,
    *,
    text: TextPart | None = None,
    told: list[str] | None = None,
) -> TrainedTowers:
    say = (told if told is not None else []).append
    return train_towers(source, root / "towers", config=config, device="cpu", work=root / "work", text=text, say=say)


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
    assert towers.user.reads_history
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


def test_several_kinds_of_events_are_targets_by_their_weights(load_shop: Shop) -> None:
    told = walks(30)
    told["event"] = ["view" if row % 3 == 1 else "purchase" for row in range(30 * BOUGHT)]
    data = load_shop(items=ITEMS, events=told)
    split = split_events(data)
    assert data.events is not None
    np.testing.assert_array_equal(target_weights(data.events, split, {}), split.train_target)
    views = split.train & data.events.is_kind(["view"])
    assert views.any()
    found = target_weights(data.events, split, {"purchase": 1.0, "view": 0.25})
    np.testing.assert_array_equal(found, split.train_target + 0.25 * views)
    with pytest.raises(BadConfig, match="target_weights names gaze"):
        target_weights(data.events, split, {"gaze": 1.0})


@pytest.mark.parametrize(("rounds", "epochs"), [(1.0, 20), (0.5, 10)])
def test_a_share_of_the_rounds_over_histories_can_be_asked_for(
    shop: DataSet,
    split: EventSplit,
    tiny_encoder_folder: Path,
    untuned: TextPart,
    tmp_path: Path,
    rounds: float,
    epochs: int,
) -> None:
    config = config_of(tiny_encoder_folder)
    config = config.model_copy(update={"history": config.history.model_copy(update={"epochs": None})})
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if line.startswith("history part"):
            raise InterruptedError

    source = TowerData(shop, split, None)
    with pytest.raises(InterruptedError):
        train_towers(
            source,
            tmp_path / "t",
            config=config,
            device="cpu",
            work=tmp_path / "w",
            text=untuned,
            rounds=rounds,
            say=say,
        )
    assert f"{epochs} epochs at most" in told[-1]


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
    towers.weigh_identity(0.5)

    def beside(vectors: Vectors, asked: NDArray[np.integer]) -> Beside | None:
        pairs, ends = validation.pairs._replace(vectors=vectors), validation.ends
        timeline = dataclasses.replace(validation.timeline, query=validation.timeline.query.copy())
        timeline.query[ends[asked >= 0] - 1] = asked[asked >= 0]  # the newest event was a query
        at = np.where(asked >= 0, ends - 1, -1)
        changed = dataclasses.replace(validation, pairs=pairs, timeline=timeline, asked=at)
        return changed.weigh_history(towers, knows_all)

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
    beside = Validation._beside

    def heard(self: Validation, *args: object) -> tuple[Vectors, Vectors, Vectors]:
        found = beside(self, *args)  # type: ignore[arg-type]
        read.append((set((self.ends - at).tolist()), found[0]))
        return found

    monkeypatch.setattr(Validation, "_beside", heard)
    dataclasses.replace(validation, timeline=timeline, pairs=pairs, asked=at).weigh_history(towers, None)
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
    weight, recall = validation.weigh_linear(
        towers, ItemFactors(np.eye(n, dtype="f")[step], np.eye(n, dtype="f"), none)
    )
    assert weight > 0
    assert recall > before + 0.2
    elsewhere = each[(step + 3 * SIZE) % n]  # nothing but other groups
    assert validation.weigh_linear(towers, ItemFactors(elsewhere, each, none)) == (0, before)


def test_the_closed_form_is_in_the_towers_at_the_weight_that_was_found(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    told: list[str] = []
    config = config_of(tiny_encoder_folder, epochs=1)  # so few that much is left to find
    trained = fit(TowerData(shop, split, None), tmp_path, config, text=untuned, told=told)
    made = Towers.open(trained.folder, device="cpu")
    assert made.config.linear == 12
    weight, recall = told[-1].removeprefix("linear part: weight ").split(", recall@20 ")
    assert float(weight) > 0
    assert float(recall) == pytest.approx(trained.figures["history_recall@20"], abs=1e-4)
    items = made.item.vectors(untuned.vectors, shop.items)
    assert items.shape == (shop.n_items, 16 + 8 + 12 + 1 + 12)
    weights = items[:, 37:] @ items[:, 24:36].T
    often = np.arange(5 * SIZE)  # items of the groups that sold most
    step = often // SIZE * SIZE + (often % SIZE + 1) % SIZE
    assert np.mean(weights[often, step]) > 3 * np.abs(weights).mean()  # twelve dimensions for twenty groups


def test_without_queries_the_text_part_stays_as_it_is_unless_examples_are_asked_for(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    config, told = config_of(tiny_encoder_folder, epochs=1), list[str]()
    config = config.model_copy(update={"text": config.text.model_copy(update={"examples": None})})
    trained = fit(TowerData(shop, split, None), tmp_path, config, told=told)
    assert not any(line.startswith("text part") for line in told)
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu").encode(["red"], normalize_embeddings=True)
    found = Towers.open(trained.folder, device="cpu").encoder.encode(["red"], "query")
    np.testing.assert_allclose(found, before, atol=1e-4)


def test_the_same_seed_gives_the_same_towers(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    config = config_of(tiny_encoder_folder, epochs=1)
    state = torch.random.get_rng_state()
    made = [
        fit(TowerData(shop, split, None), tmp_path / str(i), config.model_copy(update={"seed": seed}), text=untuned)
        for i, seed in enumerate((1, 1, 2))
    ]
    marks = [folder_fingerprint(one.folder) for one in made]
    assert marks[0] == marks[1]
    assert marks[0] != marks[2]
    assert torch.equal(torch.random.get_rng_state(), state)


class Interrupted(Exception):
    """What a test throws into a run."""


def test_an_interrupted_run_trains_nothing_twice_and_ends_as_it_would_have(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, source = config_of(tiny_encoder_folder, examples=64, epochs=2), TowerData(shop, split, None)
    whole = fit(source, tmp_path / "whole", config)

    def fails(*parts: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_save_history", fails)
        with pytest.raises(Interrupted):
            fit(source, tmp_path / "other", config)

    monkeypatch.setattr(train_module, "train_text", fails)  # it is done
    resumed = fit(source, tmp_path / "other", config)
    assert folder_fingerprint(resumed.folder) == folder_fingerprint(whole.folder)
    assert resumed.figures == whole.figures
    assert set(whole.figures) == {"text_recall@10", "history_recall@20"}


def test_what_an_earlier_run_on_other_settings_left_is_not_taken(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TowerData(shop, split, None)

    def fails(*parts: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_save_history", fails)
        with pytest.raises(Interrupted):
            fit(source, tmp_path, config_of(tiny_encoder_folder, examples=32, epochs=1))
    told: list[str] = []
    fit(source, tmp_path, config_of(tiny_encoder_folder, examples=16, epochs=1), told=told)
    assert any(line.startswith("text part") and "16 examples" in line for line in told)


def test_judged_queries_alone_train_a_text_part_and_no_history(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    data, told = load_shop(items=ITEMS, queries=QUERIES, judgements=JUDGEMENTS), list[str]()
    trained = fit(
        TowerData(data, None, split_judgements(data)), tmp_path, config_of(tiny_encoder_folder, examples=64), told=told
    )
    assert [line.split(":")[0] for line in told] == ["text part"]
    assert not (trained.folder / HEAD).exists()
    assert not (trained.folder / HISTORY).exists()
    towers = Towers.open(trained.folder, device="cpu")
    assert not towers.user.reads_history
    assert towers.config.index_dim == towers.config.text_dim == 32
    np.testing.assert_array_equal(towers.item.vectors(trained.text_vectors, data.items), trained.text_vectors)
    np.testing.assert_array_equal(towers.user.queries(["red"]), towers.encoder.encode(["red"], "query"))
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu").encode(["red"], normalize_embeddings=True)
    assert np.abs(towers.encoder.encode(["red"], "query") - before).max() > 1e-3


def test_grades_are_trained_on_with_all_that_was_judged_and_a_teacher_is_heard(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    heard: list[str] = []

    def teacher(queries: Sequence[str], items: Sequence[str]) -> NDArray[np.float32]:
        heard.extend(queries)
        return np.zeros(len(items), np.float32)

    judgements = JUDGEMENTS | {"grade": [3.0, 1.0] * 60}
    data = load_shop(items=ITEMS, events=walks(10), queries=QUERIES, judgements=judgements)
    source, told = TowerData(data, split_events(data), split_judgements(data)), list[str]()
    n_queries = len(split_judgements(data).folds["train"])
    settings = ({"loss": "mse"}, {"hard_negatives": 1, "negative_window": (0, 9)})
    for number, changes in enumerate(settings):
        config = config_of(tiny_encoder_folder, examples=16)
        config = config.model_copy(update={"text": config.text.model_copy(update=changes)})
        root = tmp_path / str(number)
        train_towers(source, root / "t", config=config, device="cpu", work=root / "w", teacher=teacher, say=told.append)
    graded, good = (int(line.split()[2].replace(",", "")) for line in told if line.startswith("text part"))
    assert n_queries < graded <= 2 * n_queries  # a few queries are held out
    assert graded % 2 == 0
    assert good != graded
    assert set(heard) & set(QUERIES["text"])


def test_events_and_judged_queries_together_share_one_space(
    load_shop: Shop, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    events = walks(60)
    asked = [f"{WORDS[row % 10]} {row % 3}" if row % 2 else None for row in range(60 * BOUGHT)]
    data = load_shop(items=ITEMS, events=events | {"query": asked}, queries=QUERIES, judgements=JUDGEMENTS)
    source = TowerData(data, split_events(data), split_judgements(data))
    config = config_of(tiny_encoder_folder, epochs=2)
    config = config.model_copy(update={"history": config.history.model_copy(update={"dim": None})})
    trained = fit(source, tmp_path, config, text=untuned)
    towers = Towers.open(trained.folder, device="cpu")
    assert towers.config.dim == 32  # with queries the space is as wide as the text's
    assert trained.figures == {}  # six shoppers are too few to validate on
    queries = towers.user.queries(["red 1"])
    assert queries.shape == (1, towers.config.index_dim)
    assert towers.item.vectors(trained.text_vectors, data.items).shape == (data.n_items, towers.config.index_dim)


def test_too_few_histories_train_no_history(
    load_shop: Shop, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    data, told = load_shop(items=ITEMS, events=walks(10)), list[str]()
    trained = fit(
        TowerData(data, split_events(data), None), tmp_path, config_of(tiny_encoder_folder), text=untuned, told=told
    )
    assert told == []
    assert not (trained.folder / HISTORY).exists()


def test_nothing_to_ask_leaves_the_text_part_as_it_was(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    data = load_shop(items=ITEMS)
    trained = fit(TowerData(data, None, None), tmp_path, config_of(tiny_encoder_folder, examples=64))
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    by_library = before.encode(item_texts(data.items), normalize_embeddings=True)
    np.testing.assert_allclose(trained.text_vectors, by_library, atol=1e-5)


def test_users_left_out_for_cross_fitting_are_not_read(shop: DataSet, split: EventSplit) -> None:
    assert shop.events is not None
    half = np.arange(shop.n_users) % 2 == 0
    train = TowerData(shop, split, None, half).train
    assert train.any()
    assert not train[~half[shop.events.user]].any()
    assert (train <= split.train).all()


def test_rounds_fall_as_the_data_grow_and_follow_the_budget() -> None:
    rounds = [history_epochs(positions, "default") for positions in (0, 1_000, 300_000, 10**7)]
    assert rounds == sorted(rounds, reverse=True)
    assert rounds[0] > rounds[-1] >= 1
    assert history_epochs(1_000, "quick") < rounds[1] < history_epochs(1_000, "long")
    assert history_epochs(10**9, "quick") >= 1
