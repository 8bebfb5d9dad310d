"""A shop where each shopper walks around one group of items, and towers trained on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from retrieval.data.dataset import DataSet
from retrieval.settings import HistoryConfig, RetrievalConfig, TextConfig
from retrieval.training.towers import TextPart, TowerData, TrainedTowers, train_towers

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


def config_of(folder: Path, *, examples: int = 0, epochs: int = 20) -> RetrievalConfig:
    history = HistoryConfig(
        dim=16, width=16, identity=8, linear=12, longest=6, dropout=0.1, residual_drop=0.0, learning_rate=0.02,
        weight_decay=0.0, temperature=0.2, batch_positions=250, epochs=epochs, evaluations=5,
    )  # fmt: skip
    text = TextConfig(
        model=str(folder), examples=examples, batch=16, learning_rate=1e-3, max_tokens=16, tuned_share=1.0
    )
    return RetrievalConfig(text=text, history=history)


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
