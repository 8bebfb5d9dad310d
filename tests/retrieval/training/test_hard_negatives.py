"""Hard negatives: which ranks they are drawn from, and when they are mined again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.hard_negatives import HardNegatives, mine_negatives, veto_negatives
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


RANKED = np.array([[1 - row / 20, 0] for row in range(20)], np.float32)  # the query below ranks them 0, 1, 2 and so on
QUERY = np.array([[1, 0]], np.float32)


def mine(
    *, positive: int = 0, known: tuple[int, ...] = (0,), count: int = 3, window: tuple[int, int] = (0, 20),
    margin: float | None = None, seed: int = 0, pool: list[int] | None = None,
) -> list[int]:  # fmt: skip
    allowed = None if pool is None else np.isin(np.arange(len(RANKED)), pool)
    found = mine_negatives(
        QUERY, RANKED, np.array([positive]), CSR.from_lists([known]),
        count=count, window=window, margin=margin, rng=np.random.default_rng(seed), pool=allowed,
    )  # fmt: skip
    assert found.shape == (1, count)
    return [int(row) for row in found[0]]


def test_negatives_come_from_the_window_of_ranks_and_each_once() -> None:
    drawn = [mine(positive=19, window=(2, 7), known=(), seed=seed) for seed in range(60)]
    assert {row for one in drawn for row in one} == {2, 3, 4, 5, 6}
    assert all(len(set(one)) == 3 for one in drawn)


def test_ranks_count_what_is_not_known_to_be_good() -> None:
    assert sorted(mine(known=(0, 1, 4), window=(1, 4))) == [3, 5, 6]


def test_the_positive_is_never_drawn_even_where_it_is_not_known() -> None:
    assert sorted(mine(positive=3, known=(), window=(2, 5))) == [-1, 2, 4]


def test_what_scores_above_the_positive_less_the_margin_is_suspected() -> None:
    everything = mine(positive=4, known=(4,), window=(0, 9), margin=0.0, count=9)
    assert sorted(row for row in everything if row >= 0) == [5, 6, 7, 8, 9]
    strict = mine(positive=4, known=(4,), window=(0, 9), margin=0.12, count=9)  # scores fall by .05 a row
    assert sorted(row for row in strict if row >= 0) == [7, 8, 9]


def test_without_a_margin_nothing_is_suspected_and_where_nothing_is_left_rows_are_padded() -> None:
    assert sorted(mine(positive=19, known=(19,), window=(0, 3), margin=None)) == [0, 1, 2]
    assert mine(positive=19, known=(19,), window=(0, 3), margin=0.0) == [-1, -1, -1]
    assert sorted(mine(window=(17, 30))) == [-1, 18, 19]


def test_only_the_pool_is_mined_and_its_ranks_count() -> None:
    assert sorted(mine(pool=[0, 5, 9, 11, 15], window=(1, 4))) == [9, 11, 15]


def test_the_same_seed_draws_the_same() -> None:
    assert mine(seed=3) == mine(seed=3)
    assert len({tuple(mine(seed=seed)) for seed in range(9)}) > 1


def test_a_judge_removes_what_it_prefers_to_the_positive() -> None:
    scores, of_positive = np.array([[0.9, 0.2, 0.5]], np.float32), np.array([0.5], np.float32)
    kept = veto_negatives(np.array([[7, -1, 9]]), scores, of_positive)
    assert kept.tolist() == [[-1, -1, 9]]
