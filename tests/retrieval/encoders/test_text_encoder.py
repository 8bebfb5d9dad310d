"""The text encoder says what sentence-transformers says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from retrieval.encoders import runtime
from retrieval.encoders import text_encoder as encoder_module
from retrieval.encoders.text_encoder import TextEncoder, max_tokens, open_sentence_transformer
from retrieval.errors import BadBundle
from retrieval.fingerprint import folder_fingerprint
from retrieval.topk import Vectors

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = (
    "red mug",
    "",
    "large steel drill " * 100,  # far beyond the model's 64 tokens
    "a",
    "cordless drill | tools | 40 to 60",
    "Argan OIL, hair mask; ünknown \u4e2d\u6587 words",
    " \t ",
    "b c d e f g h i j k l m n o p",
    "red mug",
)


def expected(folder: Path, texts: tuple[str, ...] = TEXTS, side: str = "document") -> NDArray[np.float32]:
    """What the library itself makes of the texts."""
    model = SentenceTransformer(str(folder), device="cpu")
    encode: Any = model.encode_query if side == "query" else model.encode_document
    return np.asarray(encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def rewrite(path: Path, **changes: object) -> None:
    """Change some entries of a JSON object."""
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(found | changes), "utf-8")


@pytest.fixture
def copied(tiny_encoder_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_encoder_folder, tmp_path / "model")


@pytest.fixture(scope="module", params=["openvino", "torch"])
def opened(request: pytest.FixtureRequest, tiny_encoder_folder: Path) -> TextEncoder:
    return TextEncoder.load(tiny_encoder_folder, runtime=request.param, device="cpu")


def by_torch(folder: Path) -> TextEncoder:
    """The encoder where it does not matter what runs it."""
    return TextEncoder.load(folder, runtime="torch", device="cpu")


def test_vectors_equal_those_of_the_library_in_the_order_of_the_texts(
    tiny_encoder_folder: Path, opened: TextEncoder
) -> None:
    vectors = opened.encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(tiny_encoder_folder), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_one_vector_whatever_stands_beside_it(opened: TextEncoder) -> None:
    together = opened.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(opened.encode([text])[0], vector, atol=1e-5)
    np.testing.assert_allclose(opened.encode(TEXTS[::-1]), together[::-1], atol=1e-5)


def test_documents_are_padded_less_than_queries_of_few_shapes(opened: TextEncoder) -> None:
    widths: list[int] = []

    class Noted:
        budget_tokens, streams = opened.runner.budget_tokens, 1

        def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]) -> Vectors:
            widths.append(ids.shape[1])
            return opened.runner(ids, mask, segments)

    watched = replace(opened, runner=Noted())
    nine = ["red blue green large small steel wood"]  # tokens, the special ones counted
    document, query = watched.encode(nine, "document"), watched.encode(nine, "query")
    assert widths == [10, 12]
    np.testing.assert_allclose(document, query, atol=1e-6)


def test_bfloat16_is_near_float32_on_a_cpu_that_has_it(
    tiny_encoder_folder: Path, without_fast_bf16: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not without_fast_bf16():
        pytest.skip("this CPU has no bfloat16")
    monkeypatch.setattr(runtime, "has_fast_bf16", without_fast_bf16)
    wanted, found = (
        TextEncoder.load(tiny_encoder_folder, device="cpu", precision=kind).encode(TEXTS) for kind in ("fp32", "auto")
    )
    assert 0.99 < float((found * wanted).sum(axis=1).min()) < 1 - 1e-7


def test_texts_beyond_one_block_are_encoded_as_well(opened: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, heard = opened.encode(TEXTS), list[int]()
    monkeypatch.setattr(encoder_module, "TOKENISED_AT_ONCE", 2)
    np.testing.assert_allclose(opened.encode(TEXTS, done=heard.append), whole, atol=1e-5)
    assert sum(heard) == len(TEXTS)


def test_a_word_is_one_of_the_model_only_with_a_token_for_the_whole_of_it(opened: TextEncoder) -> None:
    vocabulary = opened.tokenizer.get_vocab()
    whole = next(token for token in vocabulary if token.isalpha())
    assert opened.is_word(whole)
    assert not opened.is_word(whole + "zzqx")
    piece = next(token for token in vocabulary if token.startswith("##") and token[2:] not in vocabulary)
    assert not opened.is_word(piece[2:])


def test_no_texts_have_no_vectors_of_the_right_width(opened: TextEncoder) -> None:
    assert opened.encode([]).shape == (0, 32)


def test_prompts_are_honoured_by_side(copied: Path) -> None:
    rewrite(copied / "config_sentence_transformers.json", prompts={"query": "red ", "document": "large: "})
    encoder = by_torch(copied)
    queries, documents = encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "document")
    np.testing.assert_allclose(queries, expected(copied, side="query"), atol=1e-5)
    np.testing.assert_allclose(documents, expected(copied, side="document"), atol=1e-5)
    assert np.abs(queries - documents).max() > 0.01


def test_prompts_kept_out_of_the_pooling_are_refused(copied: Path) -> None:
    rewrite(copied / "1_Pooling" / "config.json", include_prompt=False)
    rewrite(copied / "config_sentence_transformers.json", prompts={"query": "red ", "document": ""})
    with pytest.raises(BadBundle, match="prompts"):
        by_torch(copied)


def test_a_model_without_segments_and_with_another_pooling(tiny_bert_folder: Path, tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

    tokens = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_bert_folder / "tokenizer.json"),
        pad_token="[PAD]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = DistilBertConfig(vocab_size=len(tokens), dim=32, n_layers=1, n_heads=4, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path / "bare")
    tokens.save_pretrained(tmp_path / "bare")
    SentenceTransformer(str(tmp_path / "bare"), device="cpu").save_pretrained(str(tmp_path / "model"))
    pooling = tmp_path / "model" / "1_Pooling" / "config.json"
    rewrite(pooling, pooling_mode="cls")
    runtimes: tuple[Literal["openvino", "torch"], ...] = ("openvino", "torch")
    for kind in runtimes:
        vectors = TextEncoder.load(tmp_path / "model", runtime=kind, device="cpu").encode(TEXTS)
        np.testing.assert_allclose(vectors, expected(tmp_path / "model"), atol=1e-5)


def test_the_older_layout_with_the_transformer_in_a_folder_of_its_own(copied: Path) -> None:
    before = by_torch(copied).encode(TEXTS)
    inner = copied / "0_Transformer"
    inner.mkdir()
    for path in [*copied.glob("*.json"), copied / "model.safetensors"]:
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    modules = json.loads((copied / "modules.json").read_text("utf-8"))
    modules[0]["path"] = "0_Transformer"
    (copied / "modules.json").write_text(json.dumps(modules), "utf-8")
    np.testing.assert_allclose(by_torch(copied).encode(TEXTS), before, atol=1e-5)
    np.testing.assert_allclose(before, expected(copied), atol=1e-5)


def test_lower_case_is_honoured_where_the_model_asks_for_it(copied: Path) -> None:
    tokens = json.loads((copied / "tokenizer.json").read_text("utf-8"))
    tokens["normalizer"]["lowercase"] = False
    (copied / "tokenizer.json").write_text(json.dumps(tokens), "utf-8")
    rewrite(copied / "tokenizer_config.json", do_lower_case=False)
    kept = by_torch(copied).encode(["RED MUG", "red mug"])
    assert np.abs(kept[0] - kept[1]).max() > 0.01
    rewrite(copied / "sentence_bert_config.json", do_lower_case=True)
    lowered = by_torch(copied).encode(["RED MUG", "red mug"])
    np.testing.assert_allclose(lowered[0], lowered[1], atol=1e-6)
    np.testing.assert_allclose(lowered, expected(copied, ("RED MUG", "red mug")), atol=1e-5)


def test_a_kept_graph_needs_no_torch(
    tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TextEncoder.load(tiny_encoder_folder, device="cpu", cache=tmp_path).encode(TEXTS)

    def never(folder: Path) -> None:
        raise AssertionError("the graph was kept")

    monkeypatch.setattr(encoder_module, "sentence_module", never)
    again = TextEncoder.load(tiny_encoder_folder, device="cpu", cache=tmp_path).encode(TEXTS)
    np.testing.assert_allclose(again, first, atol=1e-6)


def test_the_fingerprint_is_of_what_makes_vectors(copied: Path) -> None:
    before = by_torch(copied).fingerprint
    (copied / "README.md").write_text("a model card")
    assert folder_fingerprint(copied) == before
    rewrite(copied / "config_sentence_transformers.json", prompts={"query": "red ", "document": ""})
    assert by_torch(copied).fingerprint != before


@pytest.mark.parametrize(
    ("own", "tokenizer", "positions", "longest"),
    [
        (32, 64, 128, 32),
        (32, 16, 128, 32),  # its own limit goes first, as in the library
        (None, 64, 128, 64),
        (None, 1e30, 128, 128),
        (None, None, None, 512),
        (None, 1e30, None, 512),
    ],
)
def test_the_longest_text_is_the_librarys(
    tmp_path: Path, own: int | None, tokenizer: float | None, positions: int | None, longest: int
) -> None:
    rewrite(tmp_path / "sentence_bert_config.json", max_seq_length=own)
    rewrite(tmp_path / "tokenizer_config.json", model_max_length=tokenizer)
    rewrite(tmp_path / "config.json", max_position_embeddings=positions)
    assert max_tokens(tmp_path) == longest


def test_a_shorter_limit_cuts_both_alike(copied: Path) -> None:
    rewrite(copied / "sentence_bert_config.json", max_seq_length=6)
    vectors = by_torch(copied).encode(TEXTS)
    np.testing.assert_allclose(vectors, expected(copied), atol=1e-5)
    assert np.abs(vectors[7] - expected(copied, ("b c d e",))[0]).max() < 1e-5


@pytest.mark.parametrize(
    ("fault", "named"),
    [("tokenizer.json", "tokenizer.json"), ("modules.json", "is not JSON"), ("model.safetensors", "does not open")],
)
def test_a_folder_that_is_no_such_model_is_refused_by_name(copied: Path, fault: str, named: str) -> None:
    if fault == "modules.json":
        (copied / fault).write_text("[{")
    else:
        (copied / fault).unlink()
    with pytest.raises(BadBundle, match=named) as caught:
        by_torch(copied)
    assert str(copied) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_model_at_all_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="does not open as a sentence-transformers model"):
        open_sentence_transformer(tmp_path / "nothing")
