"""The text encoder of both towers: any sentence-transformers or Hugging Face encoder, run on OpenVINO or torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.batching import Encoded, run_batched
from retrieval.encoders.int8_file import INT8, holds_int8
from retrieval.encoders.packed_e5 import PROMPTS
from retrieval.encoders.pretrained import offline_remedy, pretrained_source
from retrieval.encoders.runtime import (
    MULTIPLE,
    TOKEN_INPUTS,
    Runner,
    RuntimeName,
    TorchRunner,
    check_runtime,
    convert,
    openvino_model,
    pick_device,
    resolve_precision,
    token_example,
)
from retrieval.errors import BadBundle
from retrieval.fingerprint import fingerprint, folder_fingerprint
from retrieval.settings import MULTILINGUAL
from retrieval.topk import Vectors

if TYPE_CHECKING:
    import openvino
    import tokenizers
    import torch
    from sentence_transformers import SentenceTransformer

TOKENISED_AT_ONCE = 8192  # texts, so that the tokens of a whole catalogue need not fit in memory
LONGEST, NO_LIMIT = 512, 1_000_000  # tokens: default limit, and the number from which a limit means none
Side = Literal["query", "document"]
PROMPT_NAMES: dict[Side, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
NO_INT8 = (
    "int8: this machine has no int8 instructions, or the text encoder has no int8 weights of this version (train "
    "or adopt it again with --set retrieval.precision=int8); items' texts are embedded as with auto"
)
SENTENCE_CONFIG = "config_sentence_transformers.json"
KNOWN_PROMPTS = {MULTILINGUAL: PROMPTS}  # of models on the hub whose folder does not name them
WORD_MARKS = ("\u2581", "\u0120")  # prefixes of words in SentencePiece and byte-level BPE
# Documents come by the thousand, so that more distinct shapes pay off: padded to 8, a fifth of a title is padding.
PADDED_TO: dict[Side, int] = {"query": MULTIPLE, "document": 2}


@dataclass(frozen=True)
class TextEncoder:
    """Embeds texts as unit vectors.

    `tokenizer` truncates to the model's own length; an empty text becomes its special tokens. Vectors equal those of
    `SentenceTransformer(folder).encode(texts, normalize_embeddings=True)` within float32 rounding; in bfloat16, which
    `auto` takes where the hardware has it, their cosine with those is about .9999, in int8 .9998. `documents` embeds
    documents if they use another model than queries; `fingerprint` is that of the document model.
    """

    tokenizer: tokenizers.Tokenizer
    runner: Runner
    prompts: dict[Side, str]
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
        """Opens a sentence-transformers folder.

        On OpenVINO the graph is cached under `cache`, and torch is imported only to build it; CUDA runs on torch.
        `precision` int8 applies to documents, on OpenVINO and CPUs with int8 instructions, if the folder has int8
        weights; queries, and documents elsewhere, then run as with `auto`.

        Raises BadBundle where the folder is no such model, BadConfig for an unknown runtime or precision,
        MissingDependency where torch is needed and not installed.
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
        found = cls(tokenizer, runner, folder_prompts(folder), pad_id, folder_fingerprint(folder, leave_out=INT8))
        if (precision, where, runtime, kind) != ("int8", "cpu", "openvino", "bf16") or not holds_int8(folder):
            return found
        graph = partial(_openvino_graph, folder, int8=True)
        documents = openvino_model(cache and cache / "encoder_int8.xml", graph, kind)
        return replace(found, documents=documents, fingerprint=fingerprint(folder_fingerprint(folder), precision))

    def encode(
        self, texts: Sequence[str], side: Side = "document", *, done: Callable[[int], None] | None = None
    ) -> Vectors:
        """Unit vectors of texts, float32 [n, dim]; `done` is called after each batch with its number of texts."""
        prompt, parts = self.prompts.get(side, ""), []
        runner = self.documents if side == "document" and self.documents is not None else self.runner
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            tokens = encode_texts(self.tokenizer, [prompt + text for text in texts[start : start + TOKENISED_AT_ONCE]])
            found = run_batched(tokens, runner, pad_id=self.pad_id, multiple=PADDED_TO[side], done=done)
            parts.append(found)
        return np.concatenate(parts) if parts else self.encode([""])[:0]

    def is_word(self, word: str) -> bool:
        """Whether the vocabulary has a token for the whole lower-case word, so that the word is common."""
        return any(self.tokenizer.token_to_id(mark + word) is not None for mark in self._marks)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """Prefixes of tokens that are whole words; none if the tokenizer marks continuations instead (WordPiece)."""
        return ("",) if any(token.startswith("##") for token in self.tokenizer.get_vocab()) else WORD_MARKS


def encode_texts(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Encoded:
    """Token and segment ids with special tokens, truncated as the tokenizer is configured."""
    rows = tokenizer.encode_batch(list(texts))
    return Encoded([row.ids for row in rows], [row.type_ids for row in rows])


def token_counts(folder: Path, texts: Sequence[str]) -> NDArray[np.int64]:
    """The number of tokens that the model in `folder` reads of each text, with special tokens, int64 [n]."""
    inner = _transformer_folder(folder)
    return encode_texts(load_tokenizer(inner, max_tokens(inner))[0], texts).lengths


def load_tokenizer(folder: Path, longest: int | None) -> tuple[tokenizers.Tokenizer, int]:
    """The folder's fast tokenizer, without padding, truncating to `longest` tokens if given; and its padding id.

    Raises BadBundle where the folder has no fast tokenizer.
    """
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
    """Makes the tokenizer lower-case texts first, as older sentence-transformers models require."""
    from tokenizers.normalizers import Lowercase, Sequence

    after = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = Sequence([Lowercase(), *after])


def _transformer_folder(folder: Path) -> Path:
    """The folder of the transformer and its tokenizer: `folder` itself, or a subfolder in the older layout."""
    modules = _parsed(folder / "modules.json")
    first = modules[0] if isinstance(modules, list) and modules else None
    return folder / str(first.get("path", "")) if isinstance(first, dict) else folder


def _pad_id(folder: Path, tokenizer: tokenizers.Tokenizer) -> int:
    token = read_json(folder / "tokenizer_config.json").get("pad_token", "[PAD]")
    content = token.get("content", "[PAD]") if isinstance(token, dict) else str(token)
    return int(tokenizer.token_to_id(content) or 0)


def max_tokens(folder: Path) -> int:
    """The model's maximum length in tokens, special tokens included."""
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
    """The JSON object in a file, empty where there is no such file. Raises BadBundle where it is not JSON."""
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


def folder_prompts(folder: Path) -> dict[Side, str]:
    """The prompts of a model in sentence-transformers' layout by side; see `prompts_of`."""
    default = read_json(folder / SENTENCE_CONFIG).get("default_prompt_name")
    return prompts_of(named_prompts(folder), default)


def named_prompts(folder: Path) -> dict[str, str]:
    """The prompts that sentence-transformers records in a folder, by name, without what is empty."""
    found = read_json(folder / SENTENCE_CONFIG).get("prompts")
    return {str(name): str(text) for name, text in found.items() if text} if isinstance(found, dict) else {}


def source_prompts(source: str | Path) -> dict[Side, str]:
    """The prompts by side of a model in a folder or on the hub, or those that are known of it."""
    folder = source_folder(source)
    return (folder and folder_prompts(folder)) or KNOWN_PROMPTS.get(str(source), {})


def source_folder(source: str | Path) -> Path | None:
    """The folder of a model: `source` itself, or where the hub's files are kept; None where it records no prompts."""
    if Path(source).is_dir():
        return Path(source)
    from sentence_transformers.util import load_file_path

    path = load_file_path(str(source), SENTENCE_CONFIG)
    return None if path is None else Path(path).parent


def prompts_of(named: Mapping[str, str | None], default: object = None) -> dict[Side, str]:
    """What is written before a query and before a document, out of sentence-transformers' prompts by name; without
    what is empty. `default` names the prompt of a side that has none.

    >>> prompts_of({"query": "query: ", "document": "", "passage": "passage: "})
    {'query': 'query: ', 'document': 'passage: '}
    """
    found: dict[Side, str] = {}
    for side, names in PROMPT_NAMES.items():
        texts = [str(named[name]) for name in (*names, str(default)) if named.get(name)]
        found |= {side: texts[0]} if texts else {}
    return found


def open_sentence_transformer(source: str | Path, *, device: str = "cpu") -> SentenceTransformer:
    """Opens a sentence-transformers model from a folder or a model id (see `pretrained_source`), with its prompts named
    by side, or with those that are known of a model that comes without. Raises BadBundle where it does not open."""
    from sentence_transformers import SentenceTransformer

    from retrieval.encoders.quiet import quiet_libraries

    opened = pretrained_source(str(source))
    try:
        with quiet_libraries():
            model = SentenceTransformer(opened, device=device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = offline_remedy(str(source))
        raise BadBundle(f"{source} does not open as a sentence-transformers model: {first}{remedy}") from error
    found = prompts_of(model.prompts, model.default_prompt_name) or KNOWN_PROMPTS.get(str(source), {})
    model.prompts, model.default_prompt_name = {str(side): text for side, text in found.items()}, None
    return model


def sentence_module(folder: Path, *, bf16: bool = False, int8: bool = False) -> torch.nn.Module:
    """The whole model (transformer, pooling and later modules) as one module from token tensors to unit vectors.

    `bf16` converts the transformer to bfloat16, `int8` its linear layers to the folder's int8 weights.
    """
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
