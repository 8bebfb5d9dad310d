"""What a batch of the text encoder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.hard_negatives import HardNegatives
from retrieval.training.text_batches import Batch, Teacher, TextBatches
from retrieval.training.text_pairs import TextPairs

pytestmark = pytest.mark.usefixtures("one_thread")
ITEMS = [f"{word} {letter} | kitchen | price {digit}" for word, letter, digit in zip(
    ("mug", "drill", "saw", "hammer", "oil", "mask"), "abcdef", "123456", strict=True)]  # fmt: skip
PAIRS = TextPairs(("blue chair", "large table"), np.array([0, 1]), np.array([0, 1]), CSR.from_lists([[0], [1]]))


@pytest.fixture(scope="module")
def model(tiny_encoder_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_encoder_folder), device="cpu")


def batch(
    model: SentenceTransformer, *, step: int = 0, negatives: list[list[int]] | None = None,
    teacher: Teacher | None = None, **changes: object,
) -> Batch:  # fmt: skip
    config = TextConfig(**({"typos": 0.0, "word_drop": 0.0} | changes))  # type: ignore[arg-type]
    mined = HardNegatives(PAIRS, ITEMS, config, steps=1, seed=0)
    if negatives is not None:
        mined.rows = np.array(negatives)
    return TextBatches(model, PAIRS, ITEMS, config, 0, mined, teacher)(np.array([1, 0]), step)


def read(model: SentenceTransformer, made: Batch, side: str) -> list[str]:
    return [str(text) for text in model.tokenizer.batch_decode(made[f"{side}_input_ids"], skip_special_tokens=True)]


def test_texts_and_labels_are_those_of_the_pairs(model: SentenceTransformer) -> None:
    made = batch(model)
    assert read(model, made, "query") == ["large table", "blue chair"]
    assert read(model, made, "item") == [ITEMS[1], ITEMS[0]]
    label = {name: values.tolist() for name, values in made["label"].items()}
    assert label == {"owner": [1, 0], "item": [1, 0], "grade": [1, 1], "negative": [], "mined": [[], []]}
    assert not any(name.startswith("negative") for name in made)


def test_mined_negatives_are_read_once_and_found_by_each_of_their_pairs(model: SentenceTransformer) -> None:
    made = batch(model, negatives=[[5, 2], [-1, 5]], hard_negatives=2)
    assert read(model, made, "negative") == [ITEMS[2], ITEMS[5]]
    assert made["label"]["negative"].tolist() == [2, 5]
    assert made["label"]["mined"].tolist() == [[-1, 1], [1, 0]]


def test_a_teacher_vetoes_what_it_prefers_and_reads_texts_as_they_are(model: SentenceTransformer) -> None:
    asked: list[tuple[str, str]] = []

    def teacher(queries: Sequence[str], items: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(zip(queries, items, strict=True))
        return np.array([ITEMS.index(item) for item in items], np.float32)

    made = batch(model, negatives=[[5, 4], [0, -1]], teacher=teacher, hard_negatives=2, word_drop=1.0, field_loss=1.0)
    assert asked == [
        ("large table", ITEMS[1]), ("large table", ITEMS[0]),
        ("blue chair", ITEMS[0]), ("blue chair", ITEMS[5]), ("blue chair", ITEMS[4]),
    ]  # fmt: skip
    assert made["label"]["mined"].tolist() == [[0, -1], [-1, -1]]
    assert made["label"]["teacher"].tolist() == [[1, 0, -np.inf], [0, 5, 4]]
    assert read(model, made, "negative") == ["mug a"]


def test_texts_are_changed_by_chance_anew_at_each_step_and_alike_at_the_same(model: SentenceTransformer) -> None:
    settings = {"word_drop": 0.5, "typos": 0.5, "field_loss": 0.5}
    steps = [batch(model, step=step, **settings) for step in range(20)]
    asked = {text for made in steps for text in read(model, made, "query")}
    assert {"large table", "blue chair", "large", "table", "blue", "chair"} <= asked
    assert len(asked) > 6  # those are spelt
    items = {text for made in steps for text in read(model, made, "item")}
    assert {"mug a", "mug a | kitchen", "mug a | price 1", ITEMS[0]} <= items
    for step in (0, 7):
        again = batch(model, step=step, **settings)
        assert again["query_input_ids"].tolist() == steps[step]["query_input_ids"].tolist()
        assert again["item_input_ids"].tolist() == steps[step]["item_input_ids"].tolist()
