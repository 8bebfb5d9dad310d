"""A large vocabulary is trimmed to what a shop reads; known texts keep their tokens and their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from packed_models import PIECES, VOCABULARY, write_packed
from ranking.models.pair_tokens import PairTokenizer
from retrieval.encoders import vocabulary
from retrieval.encoders.packed_e5 import PackedModel, write_sentence_transformer
from retrieval.encoders.text_encoder import TextEncoder, open_sentence_transformer
from retrieval.encoders.vocabulary import trim_vocabulary

KNOWN = ["red mug", "红色 a", "unknown ǂ red"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    write_sentence_transformer(PackedModel.read(write_packed(root / "tiny.bin")), root / "model")
    return root / "model"


@pytest.fixture
def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
    """A model whose vocabulary counts as large, and none of whose pieces as common."""
    monkeypatch.setattr(vocabulary, "LARGE", 10)
    monkeypatch.setattr(vocabulary, "COMMON", 0)
    return open_sentence_transformer(folder)


def tokens(model: SentenceTransformer, text: str) -> list[str]:
    found: list[str] = model.tokenizer.convert_ids_to_tokens(model.tokenizer(text)["input_ids"])
    return found


def test_known_texts_are_read_as_before(model: SentenceTransformer, folder: Path) -> None:
    before, whole = model.encode_query(KNOWN), open_sentence_transformer(folder)
    n = trim_vocabulary(model, KNOWN)
    assert n is not None
    assert n < len(VOCABULARY)
    assert model[0].model.get_input_embeddings().num_embeddings == model[0].model.config.vocab_size == n
    np.testing.assert_array_equal(model.encode_query(KNOWN), before)
    assert [tokens(model, text) for text in KNOWN] == [tokens(whole, text) for text in KNOWN]


def test_a_new_word_falls_back_to_smaller_pieces(model: SentenceTransformer) -> None:
    trim_vocabulary(model, ["mug"])
    assert tokens(model, "红色") == ["<s>", "▁", "红", "色", "</s>"]
    assert "红色" in PIECES


def test_common_pieces_stay_though_no_text_has_them(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "COMMON", len(VOCABULARY) - 1)
    trim_vocabulary(model, ["mug"])
    assert tokens(model, "红色") == ["<s>", "▁", "红色", "</s>"]


def test_the_saved_folder_serves_and_starts_a_cross_encoder(model: SentenceTransformer, tmp_path: Path) -> None:
    trim_vocabulary(model, KNOWN)
    wanted = model.encode_document(KNOWN)
    model.save(str(tmp_path), create_model_card=False)
    encoder = TextEncoder.load(tmp_path, runtime="torch", device="cpu", precision="fp32")
    np.testing.assert_allclose(encoder.encode(KNOWN), wanted, atol=1e-5)
    np.testing.assert_array_equal(open_sentence_transformer(tmp_path).encode_document(KNOWN), wanted)
    pairs = PairTokenizer.load(tmp_path)
    assert pairs.largest_id < model[0].model.config.vocab_size
    at = np.zeros(1, np.int64)
    batch = pairs.batch(pairs.pairs(["red"], ["mug"], at, at))
    assert model.tokenizer.convert_ids_to_tokens(batch.input_ids[0]) == ["<s>", "▁red", "</s>", "</s>", "▁mug", "</s>"]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_small_vocabulary_and_word_pieces_are_left_alone(folder: Path, tiny_encoder_folder: Path) -> None:
    for path in (folder, tiny_encoder_folder):
        model = open_sentence_transformer(path)
        before = model.tokenizer.get_vocab()
        assert trim_vocabulary(model, KNOWN) is None
        assert model.tokenizer.get_vocab() == before
