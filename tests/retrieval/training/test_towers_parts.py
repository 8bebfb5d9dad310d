"""Which parts of the towers a data set trains, on what, and in how many rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from retrieval.data.dataset import DataSet
from retrieval.data.split import EventSplit, split_events, split_judgements
from retrieval.errors import BadConfig
from retrieval.text.rendering import item_texts
from retrieval.towers.serving import HEAD, HISTORY, Towers, read_config
from retrieval.training.towers import TextPart, TowerData, history_epochs, train_towers
from retrieval.training.windows import target_weights
from walks import BOUGHT, ITEMS, WORDS, Shop, config_of, fit, walks

pytestmark = pytest.mark.usefixtures("one_thread")
QUERIES = {"query_id": [f"q{row}" for row in range(60)], "text": [f"{WORDS[row % 10]} {row}" for row in range(60)]}
JUDGEMENTS = {
    "query_id": [f"q{row}" for row in range(60) for _ in range(2)],
    "item_id": [ITEMS["item_id"][(7 * row + other) % 120] for row in range(60) for other in range(2)],
    "grade": [float(3 - other) for _ in range(60) for other in range(2)],
}


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
        if line.startswith("history model"):
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


def test_without_queries_the_text_part_stays_as_it_is_unless_examples_are_asked_for(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    config, told = config_of(tiny_encoder_folder, epochs=1), list[str]()
    config = config.model_copy(update={"text": config.text.model_copy(update={"examples": None})})
    trained = fit(TowerData(shop, split, None), tmp_path, config, told=told)
    assert not any(line.startswith("text encoder") for line in told)
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu").encode(["red"], normalize_embeddings=True)
    found = Towers.open(trained.folder, device="cpu").encoder.encode(["red"], "query")
    np.testing.assert_allclose(found, before, atol=1e-4)


def test_judged_queries_alone_train_a_text_part_and_no_history(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    data, told = load_shop(items=ITEMS, queries=QUERIES, judgements=JUDGEMENTS), list[str]()
    trained = fit(
        TowerData(data, None, split_judgements(data)), tmp_path, config_of(tiny_encoder_folder, examples=64), told=told
    )
    assert [line.split(":")[0] for line in told] == ["text model", "text encoder"]
    assert told[0] == f"text model: {tiny_encoder_folder}, as the settings say"
    assert read_config(trained.folder).text_model == f"{tiny_encoder_folder}, as the settings say"
    assert not (trained.folder / HEAD).exists()
    assert not (trained.folder / HISTORY).exists()
    towers = Towers.open(trained.folder, device="cpu")
    assert towers.user.history is None
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
    graded, good = (int(line.split()[2].replace(",", "")) for line in told if line.startswith("text encoder"))
    assert graded == 2 * n_queries  # all that was judged; so few queries are not held out
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
