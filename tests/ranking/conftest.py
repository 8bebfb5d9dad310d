"""A two-layer random BERT and its WordPiece tokenizer, as a sentence-transformers folder and as a cross-encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

WORDS = [
    "red",
    "blue",
    "green",
    "large",
    "small",
    "steel",
    "wood",
    "mug",
    "drill",
    "saw",
    "hammer",
    "oil",
    "mask",
    "hair",
    "care",
    "lamp",
    "chair",
    "table",
    "cordless",
    "argan",
    "kitchen",
    "garden",
    "tool",
    "price",
    "to",
    "over",
    "under",
    "|",
    ";",
    ",",
    ".",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    "##a",
    "##e",
    "##s",
    "##r",
    "##ing",
    "##ed",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """Write a random two-layer BERT of width 32 with its tokenizer to `folder`, in transformers' layout."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=64)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from a second thread, and lose much where the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained-looking encoder: what a training starts from."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="session")
def tiny_ranker_folder(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with a random head, saved by sentence-transformers."""
    import torch
    from sentence_transformers import CrossEncoder

    folder = tmp_path_factory.mktemp("ranker") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        CrossEncoder(str(tiny_bert_folder), num_labels=1, device="cpu").save_pretrained(str(folder))
    return folder
