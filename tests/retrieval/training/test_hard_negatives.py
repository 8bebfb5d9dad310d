"""Rounds of mining with the model as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.hard_negatives import HardNegatives
from retrieval.training.text_pairs import TextPairs

pytestmark = pytest.mark.usefixtures("one_thread")
ITEMS = [f"{word} {letter}" for word in ("mug", "drill", "saw", "hammer", "oil", "mask") for letter in "abcdef"]
PAIRS = TextPairs(
    ("red mug", "blue saw", "red mug"), np.array([0, 1, 0]), np.array([3, 14, 7]), CSR.from_lists([[3, 7, 9], [14]])
)


@pytest.fixture(scope="module")
def model(tiny_encoder_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_encoder_folder), device="cpu")


def negatives(**changes: object) -> HardNegatives:
    settings = {"hard_negatives": 3, "negative_window": (0, 5), "negative_margin": None, **changes}
    return HardNegatives(PAIRS, ITEMS, TextConfig(**settings), steps=10, seed=1)  # type: ignore[arg-type]


def test_negatives_are_of_the_best_that_are_not_known_to_be_good(model: SentenceTransformer) -> None:
    mined = negatives()
    mined.refresh(model, 0)
    items = model.encode_document(ITEMS, normalize_embeddings=True)
    for text, owner, found in zip(PAIRS.text, PAIRS.owner, mined.rows, strict=True):
        order = np.argsort(-(items @ model.encode_query([text])[0]), kind="stable")
        liked = PAIRS.known.select(np.array([owner])).rows
        assert set(found) <= set(order[~np.isin(order, liked)][:5])
        assert len(set(found)) == 3


def test_a_round_is_mined_once_and_the_next_when_its_step_comes(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined, calls = negatives(mining_rounds=3), list[int]()
    mine = HardNegatives._mine

    def counted(self: HardNegatives, *parts: object) -> object:
        calls.append(1)
        return mine(self, *parts)  # type: ignore[arg-type]

    monkeypatch.setattr(HardNegatives, "_mine", counted)
    told = []
    for step in range(10):
        mined.refresh(model, step)
        told.append(sum(calls))
    assert told == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_of_a_large_catalogue_a_pool_is_read_and_another_in_the_next_round(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    encode = SentenceTransformer.encode_document

    def spy(self: SentenceTransformer, texts: list[str], **settings: object) -> object:
        read.append(texts)
        return encode(self, texts, **settings)

    monkeypatch.setattr(SentenceTransformer, "encode_document", spy)
    mined = negatives(negative_pool=8)
    for step in (0, 9):
        mined.refresh(model, step)
        own = {ITEMS[row] for row in PAIRS.item}
        assert own <= set(read[-1])
        assert 8 <= len(read[-1]) <= 8 + len(own)
        assert {ITEMS[row] for row in mined.rows.flat if row >= 0} <= set(read[-1])
    assert read[0] != read[1]


def test_nothing_is_mined_where_nothing_is_asked_for(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentenceTransformer, "encode", None)
    mined = negatives(hard_negatives=0)
    mined.refresh(model, 0)
    assert mined.rows.shape == (3, 0)
