"""Training of the history model and the item head on a shop where every item of a pair is followed by the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from retrieval.data.events import Events
from retrieval.settings import HistoryConfig
from retrieval.topk import CSR, Vectors, exact_topk
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.training.history_tower import (
    HistoryTowers,
    HistoryTraining,
    QueryPairs,
    make_catalogue,
    principal_projection,
)
from retrieval.training.windows import Windows

pytestmark = pytest.mark.usefixtures("one_thread")
Story: TypeAlias = Callable[[Sequence[Sequence[tuple[int, ...]]]], Events]
N_ITEMS, TEXT_DIM = 24, 12
CONFIG = HistoryConfig(
    dim=8, width=16, identity=12, heads=2, longest=8, dropout=0.1, residual_drop=0.1, learning_rate=0.02,
    temperature=0.2, batch_positions=120, uniform_negatives=6, evaluations=4,
)  # fmt: skip
SAMPLED = CONFIG.model_copy(update={"full_softmax_items": 0})


def text_vectors(n: int = N_ITEMS) -> Vectors:
    """Unit vectors that say nothing of what follows what."""
    drawn = np.random.default_rng(7).standard_normal((n, TEXT_DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def pairs_shop(users: int, rng: np.random.Generator) -> list[list[tuple[int, ...]]]:
    """Shoppers who buy two pairs of items each: 0 then 1, 2 then 3, and so on; low pairs far more often."""
    weights = 1 / np.arange(1, N_ITEMS // 2 + 1)
    picks = [rng.choice(N_ITEMS // 2, 2, replace=False, p=weights / weights.sum()) for _ in range(users)]
    return [[(item, 0, 1) for first in pick for item in (2 * int(first), 2 * int(first) + 1)] for pick in picks]


@pytest.fixture(scope="module")
def windows(make_events: Story) -> Windows:
    events = make_events(pairs_shop(150, np.random.default_rng(1)))
    every = np.ones(len(events), bool)
    return Windows.build(events, every, every, CONFIG.longest)


def make_training(
    windows: Windows,
    config: HistoryConfig = CONFIG,
    *,
    seed: int = 3,
    pairs: QueryPairs | None = None,
    validate: Callable[[HistoryTowers], float] | None = None,
    checkpoint: Path | None = None,
    n_items: int = N_ITEMS,
) -> HistoryTraining:
    """A run over items without price or category; weights are drawn from the seed."""
    text, features = text_vectors(n_items), ItemFeatures(price_edges=(), categories=())
    items = pa.table({"item_id": [str(row) for row in range(n_items)]})
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        head = ItemHead(
            principal_projection(text, 8),
            features,
            n_items,
            identity=config.identity,
            residual_drop=config.residual_drop,
        )
        sizes = {"width": config.width, "layers": config.layers, "heads": config.heads, "longest": config.longest}
        model = HistoryModel(
            8,
            len(windows.timeline.kinds),
            identity=config.identity,
            dropout=config.dropout,
            gated=config.gated,
            **sizes,
        )
    towers = HistoryTowers(head, model, config.temperature)
    catalogue = make_catalogue(text, items, features, windows, "cpu")
    return HistoryTraining(config, windows, catalogue, towers, pairs, validate, "cpu", seed, checkpoint)


def recall_of_the_other(training: HistoryTraining, windows: Windows) -> float:
    """How often the second of a pair is the best answer after its first, for one shopper of each pair."""
    firsts = np.arange(0, N_ITEMS, 2)
    with torch.inference_mode():
        towers, catalogue = training.towers, training.catalogue
        items = catalogue.read(towers.head, torch.arange(N_ITEMS))
        codes = torch.ones(len(firsts), 1, dtype=torch.long), torch.zeros(len(firsts), 1, dtype=torch.long)
        users = towers.history(items[firsts][:, None], *codes, torch.ones(len(firsts), 1, dtype=torch.bool))[:, -1]
        scores = users @ items.T + towers.head.bias / towers.scale
    seen = CSR.from_lists(firsts[:, None])
    best = exact_topk(np.eye(len(firsts), dtype=np.float32), scores.numpy().T.copy(), 1, exclude=seen)
    return float((best.rows[:, 0] == firsts + 1).mean())


def weights(training: HistoryTraining) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.towers.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SAMPLED,
        CONFIG.model_copy(update={"event_drop": 0.8}),  # the newest event is always read
        CONFIG.model_copy(update={"loss": "bce"}),
        CONFIG.model_copy(update={"gated": True}),
        SAMPLED.model_copy(update={"hard_negatives": 2, "negative_window": (1, 6)}),
    ],
    ids=["whole catalogue", "sampled", "past mostly hidden", "bce", "gated", "hard negatives"],
)
def test_items_that_follow_each_other_are_learned_far_beyond_popularity(
    windows: Windows, config: HistoryConfig
) -> None:
    training = make_training(windows, config)
    before = recall_of_the_other(training, windows)
    assert training.run(30) is None
    assert recall_of_the_other(training, windows) >= 0.75  # the most popular item is right for one pair of twelve
    assert before <= 0.34


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SAMPLED,
        SAMPLED.model_copy(update={"hard_negatives": 2, "negative_window": (1, 6)}),
    ],
    ids=["whole catalogue", "sampled", "hard negatives"],
)
def test_each_stream_learns_by_itself(windows: Windows, config: HistoryConfig) -> None:
    training = make_training(windows, config)
    training.run(30)
    for weight in (0.0, 1e3):  # content alone, identity all but alone
        training.towers.set_identity_weight(weight)
        assert recall_of_the_other(training, windows) >= 0.6


@pytest.mark.parametrize("config", [CONFIG, SAMPLED], ids=["whole catalogue", "sampled"])
def test_the_same_seed_gives_the_same_weights(windows: Windows, config: HistoryConfig) -> None:
    first, again, other = (make_training(windows, config, seed=seed) for seed in (3, 3, 4))
    for training in (first, again, other):
        training.run(2)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_torchs_own_random_state_is_left_as_it_was(windows: Windows) -> None:
    before = torch.random.get_rng_state()
    make_training(windows).run(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def some_queries(known: Sequence[Sequence[int]] = ((2, 3), (5,))) -> QueryPairs:
    """Two queries, of which pairs name the first answer only."""
    vectors, query = text_vectors(30)[-len(known) :], np.arange(len(known))
    return QueryPairs(vectors, query, np.array([answers[0] for answers in known]), CSR.from_lists(known))


class Interrupted(Exception):
    """What a test throws into a run."""


@pytest.mark.parametrize("config", [CONFIG, SAMPLED], ids=["whole catalogue", "sampled"])
def test_an_interrupted_run_goes_on_and_ends_as_it_would_have(
    windows: Windows, tmp_path: Path, config: HistoryConfig
) -> None:
    def scores(stop_at: int) -> Callable[[HistoryTowers], float]:
        heard = iter(range(100))

        def validate(towers: HistoryTowers) -> float:
            if next(heard) == stop_at:
                raise Interrupted
            return float(towers.head.bias.abs().sum())

        return validate

    whole = make_training(windows, config, pairs=some_queries(), validate=scores(99))
    best = whole.run(6)
    path = tmp_path / "history.safetensors"
    with pytest.raises(Interrupted):
        make_training(windows, config, pairs=some_queries(), validate=scores(2), checkpoint=path).run(6)
    resumed = make_training(windows, config, pairs=some_queries(), validate=scores(99), checkpoint=path)
    assert resumed.run(6) == best
    assert same(weights(resumed), weights(whole))


def test_a_target_of_little_weight_teaches_little(make_events: Story) -> None:
    told = [[(0, 0, 1), (1 if row % 2 else 2, row % 2, 2)] for row in range(40)]  # after 0: 1 viewed, or 2 bought
    events = make_events(told)
    every = np.ones(len(events), bool)

    def gain(weight: float) -> float:
        counts = np.where(events.kind == 0, 1.0, weight).astype(np.float32)
        windows = Windows.build(events, every, counts, 8)
        windows = replace(windows, liked=CSR.from_lists([[]] * 40))  # each of the two is a negative of the other
        training = make_training(windows, n_items=5)
        training.run(10)
        bias = training.towers.head.bias.detach()
        return float(bias[1] - bias[2])

    assert gain(1.0) > gain(0.2) + 0.01


def test_a_checkpoint_of_another_run_is_not_gone_on_from(windows: Windows, tmp_path: Path) -> None:
    path = tmp_path / "history.safetensors"
    make_training(windows, seed=4, checkpoint=path).run(1)
    fresh, beside = make_training(windows), make_training(windows, checkpoint=path)
    fresh.run(2)
    beside.run(2)
    assert same(weights(beside), weights(fresh))


def test_training_stops_when_validation_no_longer_rises_and_keeps_the_best_state(
    windows: Windows, tmp_path: Path
) -> None:
    heard: list[dict[str, Tensor]] = []

    def validate(towers: HistoryTowers) -> float:
        assert not towers.training
        heard.append({name: value.clone() for name, value in towers.state_dict().items()})
        return [0.1, 0.3, 0.2, 0.3, 0.9][len(heard) - 1]

    config = CONFIG.model_copy(update={"evaluations": 5, "patience": 2})
    training = make_training(windows, config, validate=validate, checkpoint=tmp_path / "history.safetensors")
    assert training.run(5) == 0.3
    assert len(heard) == 4
    assert same(weights(training), heard[1])
    assert training.run(5) == 0.3  # a run that has ended does not go on
    assert len(heard) == 4


def test_what_a_shopper_likes_is_never_a_negative(make_events: Story) -> None:
    events = make_events([[(0, 0, 1), (1, 0, 1)], [(0, 0, 1), (1, 0, 2)]])
    every = np.ones(len(events), bool)
    training = make_training(Windows.build(events, every, every, 8), n_items=5)
    training.run(5)
    bias = training.towers.head.bias.detach()
    assert float(bias[0]) == 0  # liked by both, asked for by nobody
    assert float(bias[1]) > 0
    assert (bias[2:] < 0).all()


@pytest.mark.parametrize(("known", "spared"), [((2, 3), True), ((2,), False)])
def test_other_answers_of_a_query_are_never_negatives(make_events: Story, known: tuple[int, ...], spared: bool) -> None:
    events = make_events([[(0, 0, 1), (1, 0, 1)]] * 2)
    every = np.ones(len(events), bool)
    windows = Windows.build(events, every, every, 8)
    windows = replace(windows, liked=CSR.from_lists([[0, 1, 3]] * 2))  # so that histories leave item 3 alone
    training = make_training(windows, pairs=some_queries([known]), n_items=5)
    training.run(5)
    residual = training.towers.head.residual.detach()
    assert bool((residual[3] == 0).all()) == spared
    assert residual[[1, 2, 4]].abs().min() > 0


def test_queries_learn_their_answers(windows: Windows) -> None:
    pairs = some_queries([[9], [20], [14]])
    training = make_training(windows, SAMPLED.model_copy(update={"query_weight": 2.0}), pairs=pairs)
    training.run(20)
    with torch.inference_mode():
        asked = training.towers.head.queries(torch.from_numpy(pairs.vectors))
        items = training.catalogue.read(training.towers.head, torch.arange(N_ITEMS))
    assert exact_topk(asked.numpy(), items.numpy(), 1).rows[:, 0].tolist() == [9, 20, 14]


def test_histories_that_hold_queries_are_read_with_them(make_events: Story) -> None:
    told = [[(row % 3, 1, 1), (10 + row % 2, 0, 1, row % 2)] for row in range(60)]  # what is bought is what was asked
    events = make_events(told)
    windows = Windows.build(events, np.ones(len(events), bool), events.kind == 0, 8)
    pairs = some_queries([[10], [11]])._replace(query=np.empty(0, np.int64), item=np.empty(0, np.int64))
    training = make_training(windows, pairs=pairs)
    training.run(20)
    asked = np.flatnonzero(windows.timeline.query >= 0)[:6]
    batch = windows.timeline.batch(np.arange(6), asked + 1, 8)
    with torch.inference_mode():
        towers = training.towers
        items = training.catalogue.read(towers.head, torch.arange(N_ITEMS))
        read = items[np.maximum(batch.items, 0)] * torch.from_numpy(batch.items >= 0)[..., None]
        read[torch.from_numpy(batch.queries >= 0)] = towers.head.queries(
            torch.from_numpy(pairs.vectors[batch.queries[batch.queries >= 0]])
        )
        codes = (torch.from_numpy(array) for array in (batch.kinds, batch.gaps, batch.present))
        scores = towers.history(read, *codes)[:, -1] @ items.T
    assert scores.argmax(dim=1).tolist() == [10, 11, 10, 11, 10, 11]


def test_no_epochs_train_nothing(windows: Windows) -> None:
    training = make_training(windows, validate=lambda towers: 1.0)
    before = weights(training)
    assert training.run(0) is None
    assert same(weights(training), before)


def test_the_projection_keeps_the_directions_that_hold_most() -> None:
    spread = np.zeros((200, 6), np.float32)
    spread[:, [1, 4]] = np.random.default_rng(0).standard_normal((200, 2))
    spread[:, 2] = 0.01
    found = principal_projection(spread, 2).numpy()
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-5)
    np.testing.assert_allclose(spread @ found.T @ found @ spread.T, spread @ spread.T, atol=0.01)
    assert torch.equal(principal_projection(spread, 9), torch.eye(6))
