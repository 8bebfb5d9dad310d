"""A cross-encoder that starts from an encoder reads its pairs under the encoder's prompts, in training and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from packed_models import write_packed
from ranking.models.cross_encoder import CrossEncoderScorer, adopt_cross_encoder
from ranking.models.pair_tokens import PairTokenizer
from ranking.training.initial_model import new_cross_encoder, tokenizer_of
from ranking.training.settings import RankerTraining
from retrieval.encoders.packed_e5 import PackedModel, write_sentence_transformer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose prompts are those of E5."""
    root = tmp_path_factory.mktemp("encoder")
    write_sentence_transformer(PackedModel.read(write_packed(root / "tiny.bin")), root / "model")
    return root / "model"


def read(tokenizer: PairTokenizer, user: str, item: str) -> list[int]:
    at = np.zeros(1, np.int64)
    ids: list[int] = tokenizer.batch(tokenizer.pairs([user], [item], at, at)).input_ids[0].tolist()
    return ids


def test_pairs_are_read_under_the_prompts_of_queries_and_documents(encoder: Path, tmp_path: Path) -> None:
    model = new_cross_encoder(encoder, RankerTraining(layers=1))
    assert model.prompts == {"user": "query: ", "item": "passage: "}
    wanted = model.tokenizer("query: red", "passage: mug")["input_ids"]
    assert read(tokenizer_of(model), "red", "mug") == wanted
    model.save_pretrained(str(tmp_path / "ranker"), create_model_card=False)
    assert read(PairTokenizer.load(tmp_path / "ranker"), "red", "mug") == wanted
    further = new_cross_encoder(tmp_path / "ranker", RankerTraining())  # a shallow model, as a rule
    assert read(tokenizer_of(further), "red", "mug") == wanted


def test_scores_are_those_of_the_prompted_texts(encoder: Path, tmp_path: Path) -> None:
    model = new_cross_encoder(encoder, RankerTraining())
    model.save_pretrained(str(tmp_path / "ranker"), create_model_card=False)
    scorer = CrossEncoderScorer.load(tmp_path / "ranker", runtime="torch", device="cpu", precision="fp32")
    theirs = model.predict([("query: red", "passage: mug")], show_progress_bar=False)
    np.testing.assert_allclose(scorer.predict([("red", "mug")]), theirs, atol=1e-4)
    adopt_cross_encoder(tmp_path / "ranker", tmp_path / "adopted")
    assert read(PairTokenizer.load(tmp_path / "adopted"), "a", "a") == read(scorer.tokenizer, "a", "a")


def test_an_encoder_without_prompts_gives_none(tiny_encoder_folder: Path) -> None:
    assert new_cross_encoder(tiny_encoder_folder, RankerTraining()).prompts == {}


def test_late_interaction_reads_prompts_too(encoder: Path) -> None:
    model = new_cross_encoder(encoder, RankerTraining(late_interaction=True))
    ids = read(tokenizer_of(model), "red", "mug")
    assert ids == model.tokenizer("query: red", "passage: mug")["input_ids"]
