"""The text encoder of both towers: any sentence-transformers or Hugging Face encoder, run without torch on OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.int8_file import INT8, holds_int8
from retrieval.encoders.runtime import (
    MULTIPLE,
    TOKEN_INPUTS,
    Encoded,
    Runner,
    RuntimeName,
    TorchRunner,
    check_runtime,
    convert,
    openvino_model,
    pick_device,
    resolve_precision,
    run_batched,
    token_example,
)
from retrieval.errors import BadBundle
from retrieval.fingerprint import fingerprint, folder_fingerprint
from retrieval.topk import Vectors

if TYPE_CHECKING:
    import openvino
    import tokenizers
    import torch
    from sentence_transformers import SentenceTransformer

TOKENISED_AT_ONCE = 8192  # texts; more would hold a whole catalogue's tokens in memory
LONGEST, NO_LIMIT = 512, 1_000_000  # tokens: of a model that names no limit, and what some say instead of none
Side = Literal["query", "document"]
NO_INT8 = (
    "int8: this machine multiplies no whole numbers in hardware, or the text encoder holds none of this version "
    "(train or adopt it again); items' texts are embedded as auto has them"
)
WORD_MARKS = ("\u2581", "\u0120")  # what SentencePiece and byte-level BPE put before a word
# Documents come by the thousand, so that another shape pays: a fifth of what titles are padded to with 8 is padding.
PADDED_TO: dict[Side, int] = {"query": MULTIPLE, "document": 2}


@dataclass(frozen=True)
class TextEncoder:
    """Texts to unit vectors, in the order given.

    `tokenizer` truncates to the model's own length; an empty text becomes its two special tokens. Vectors equal
    those of `SentenceTransformer(folder).encode(texts, normalize_embeddings=True)` within float32's rounding; in
    bfloat16, which `auto` takes where the hardware has it, their cosine with those is about .9999, in int8 .9998.
    `documents` runs documents where another model than that of queries does; `fingerprint` is that of documents.
    """

    tokenizer: tokenizers.Tokenizer
    runner: Runner
    prompts: dict[str, str]
    pad_id: int
    fingerprint: str
    documents: Runner | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        runtime: RuntimeName = "openvino",
        device: str = "auto",
        precision: str = "auto",
        cache: Path | None = None,
    ) -> TextEncoder:
        """Opens a sentence-transformers folder. On OpenVINO the graph is kept under `cache`, and torch is imported
        only where it is not there yet. CUDA is served by torch.

        `precision` int8 is of documents, on OpenVINO and CPUs that multiply bfloat16 and so whole numbers in hardware,
        where the folder holds some; queries, and all else, are then as `auto` has them. Raises BadBundle where the
        folder is no such model, BadConfig for a runtime or precision that is not known, MissingDependency
        where torch is needed and not installed.
        """
        check_runtime(runtime)
        where = pick_device(device)
        kind = resolve_precision("auto" if precision == "int8" else precision, where)
        inner = _transformer_folder(folder)
        tokenizer, pad_id = load_tokenizer(inner, max_tokens(inner))
        runner: Runner
        if where == "cuda":
            from retrieval.encoders.cuda import CudaRunner

            runner = CudaRunner(sentence_module(folder, bf16=kind == "bf16"), max_tokens(inner))
        elif runtime == "torch":
            runner = TorchRunner(sentence_module(folder), where, kind)
        else:
            runner = openvino_model(cache and cache / "encoder.xml", partial(_openvino_graph, folder), kind)
        found = cls(tokenizer, runner, _prompts(folder), pad_id, folder_fingerprint(folder, leave_out=INT8))
        if (precision, where, runtime, kind) != ("int8", "cpu", "openvino", "bf16") or not holds_int8(folder):
            return found
        graph = partial(_openvino_graph, folder, int8=True)
        documents = openvino_model(cache and cache / "encoder_int8.xml", graph, kind)
        return replace(found, documents=documents, fingerprint=fingerprint(folder_fingerprint(folder), precision))

    def encode(
        self, texts: Sequence[str], side: Side = "document", *, done: Callable[[int], None] | None = None
    ) -> Vectors:
        """float32 [n, dim], unit length; `done` hears how many texts each batch held."""
        prompt, parts = self.prompts.get(side, ""), []
        runner = self.documents if side == "document" and self.documents is not None else self.runner
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            tokens = encode_texts(self.tokenizer, [prompt + text for text in texts[start : start + TOKENISED_AT_ONCE]])
            found = run_batched(tokens, runner, pad_id=self.pad_id, multiple=PADDED_TO[side], done=done)
            parts.append(found)
        return np.concatenate(parts) if parts else self.encode([""])[:0]

    def is_word(self, word: str) -> bool:
        """Whether the model has a token for the whole of a lower-case word: it has read it often."""
        return any(self.tokenizer.token_to_id(mark + word) is not None for mark in self._marks)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """What may stand before a whole word; nothing only where it is the pieces that are marked."""
        return ("",) if any(token.startswith("##") for token in self.tokenizer.get_vocab()) else WORD_MARKS


def encode_texts(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Encoded:
    """Token ids with special tokens, truncated as the tokenizer is set to."""
    rows = tokenizer.encode_batch(list(texts))
    return Encoded([row.ids for row in rows], [row.type_ids for row in rows])


def token_counts(folder: Path, texts: Sequence[str]) -> NDArray[np.int64]:
    """How many tokens of each text a sentence-transformers folder reads, special ones too, int64 [n]."""
    inner = _transformer_folder(folder)
    return encode_texts(load_tokenizer(inner, max_tokens(inner))[0], texts).lengths


def load_tokenizer(folder: Path, longest: int | None) -> tuple[tokenizers.Tokenizer, int]:
    """The folder's fast tokenizer, padding off, truncating to `longest` tokens if given, and its padding id."""
    import tokenizers

    path = folder / "tokenizer.json"
    if not path.exists():
        raise BadBundle(f"{folder} has no tokenizer.json; save the model with a fast tokenizer and try again")
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    pad_id = int(tokenizer.padding["pad_id"]) if tokenizer.padding else _pad_id(folder, tokenizer)
    tokenizer.no_padding()
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(longest)
    if read_json(folder / "sentence_bert_config.json").get("do_lower_case"):
        _lower(tokenizer)
    return tokenizer, pad_id


def _lower(tokenizer: tokenizers.Tokenizer) -> None:
    """Lower case before whatever else the tokenizer makes of a text, as the older sentence-transformers ask for."""
    from tokenizers.normalizers import Lowercase, Sequence

    after = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = Sequence([Lowercase(), *after])


def _transformer_folder(folder: Path) -> Path:
    """Where the transformer and its tokenizer lie: the folder itself, or a part of it in the older layout."""
    modules = _parsed(folder / "modules.json")
    first = modules[0] if isinstance(modules, list) and modules else None
    return folder / str(first.get("path", "")) if isinstance(first, dict) else folder


def _pad_id(folder: Path, tokenizer: tokenizers.Tokenizer) -> int:
    token = read_json(folder / "tokenizer_config.json").get("pad_token", "[PAD]")
    content = token.get("content", "[PAD]") if isinstance(token, dict) else str(token)
    return int(tokenizer.token_to_id(content) or 0)


def max_tokens(folder: Path) -> int:
    """The longest text that the model reads, in tokens, special tokens included."""
    own = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    limits = (
        [own]
        if own
        else [
            read_json(folder / "tokenizer_config.json").get("model_max_length"),
            read_json(folder / "config.json").get("max_position_embeddings"),
        ]
    )
    known = [limit for limit in limits if isinstance(limit, int | float) and 0 < limit < NO_LIMIT]
    return int(min(known, default=LONGEST))


def read_json(path: Path) -> dict[str, object]:
    """A JSON object, or an empty one where there is no such file. Raises BadBundle where it is not JSON."""
    value = _parsed(path)
    return value if isinstance(value, dict) else {}


def _parsed(path: Path) -> object:
    if not path.exists():
        return None
    try:
        value: object = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadBundle(f"{path} is not JSON ({error}); restore the file or build the model again") from error
    return value


def _prompts(folder: Path) -> dict[str, str]:
    found = read_json(folder / "config_sentence_transformers.json").get("prompts")
    return {str(name): str(text) for name, text in found.items() if text} if isinstance(found, dict) else {}


def open_sentence_transformer(source: str | Path, *, device: str = "cpu") -> SentenceTransformer:
    """A sentence-transformers model from a folder or a model id. Raises BadBundle, in one line, where there is none."""
    from sentence_transformers import SentenceTransformer

    from retrieval.encoders.quiet import quiet_libraries

    try:
        with quiet_libraries():
            return SentenceTransformer(str(source), device=device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadBundle(f"{source} does not open as a sentence-transformers model: {first}") from error


def sentence_module(folder: Path, *, bf16: bool = False, int8: bool = False) -> torch.nn.Module:
    """The whole pipeline (transformer, pooling and what follows) as one module over token tensors; the transformer in
    bfloat16 or whole numbers where that is asked for."""
    import torch

    class Pipeline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = open_sentence_transformer(folder)
            self.takes_segments = "token_type_ids" in getattr(self.model.tokenizer, "model_input_names", ())
            if any(self.model.prompts.values()) and not all(
                getattr(part, "include_prompt", True) for part in self.model
            ):
                raise BadBundle(
                    f"{folder} leaves its prompts out of the pooling, which is not supported; drop the prompts"
                )

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            if self.takes_segments:
                features["token_type_ids"] = token_type_ids
            vectors = self.model(features)["sentence_embedding"][:, : self.model.truncate_dim]
            return torch.nn.functional.normalize(vectors, dim=-1)

    module = Pipeline().eval()
    if bf16:
        from retrieval.encoders.cuda import body_in_bf16

        transformer, *others = module.model
        body_in_bf16(transformer, others)
    if int8:
        from retrieval.encoders.int8_layers import quantise

        quantise(module.model, folder)
    return module


def _openvino_graph(folder: Path, *, int8: bool = False) -> openvino.Model:
    module = sentence_module(folder, int8=int8)
    takes_segments = bool(module.takes_segments)
    names, example = TOKEN_INPUTS, token_example()
    return (
        convert(module, names, example)
        if takes_segments
        else convert(_without_segments(module), names[:2], example[:2])
    )


def _without_segments(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    class TwoInputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.inner(input_ids, attention_mask, torch.zeros_like(input_ids))
            return rows

    return TwoInputs().eval()
