"""Trims the vocabulary of a multilingual encoder to the pieces that a shop's texts and everyday language use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

LARGE = 100_000  # pieces of a vocabulary above which it is trimmed
COMMON = 30_000  # most probable pieces, which always stay
TOKENISED_AT_ONCE = 8_192
SPACE = "\u2581"


def trim_vocabulary(model: SentenceTransformer, texts: Iterable[str]) -> int | None:
    """Trims the tokenizer and the word embeddings of `model` in place; returns the number of pieces that stay.

    The pieces of `texts` under the model's prompts stay, the most common ones, and every single sign, so that a new
    text is still read, in smaller pieces at worst. Texts whose pieces all stay are tokenised as before, for those are
    the most probable pieces among fewer, too. None, and nothing is changed, where the vocabulary is not a large one
    of SentencePiece's unigram model.
    """
    network = getattr(model[0], "model", None)
    tokenizer = model.tokenizer
    if not isinstance(network, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    backend = tokenizer.backend_tokenizer
    spec = json.loads(backend.to_str())
    if spec["model"].get("type") != "Unigram" or len(spec["model"]["vocab"]) <= LARGE:
        return None
    kept = kept_pieces(spec, used_pieces(backend, filter(None, model.prompts.values()), texts))
    trimmed = Tokenizer.from_str(json.dumps(trimmed_spec(spec, kept)))
    model[0].processor = _like(tokenizer, trimmed)  # type: ignore[assignment]
    words = network.get_input_embeddings()
    assert isinstance(words, nn.Embedding)
    with torch.no_grad():
        rows = words.weight[torch.from_numpy(kept).to(words.weight.device)].clone()
    network.set_input_embeddings(nn.Embedding(len(rows), rows.shape[1], _weight=rows))
    network.config.vocab_size = len(kept)
    network.config.pad_token_id = model.tokenizer.pad_token_id
    return len(kept)


def used_pieces(tokenizer: Tokenizer, prompts: Iterable[str], texts: Iterable[str]) -> set[int]:
    """The ids of the pieces of texts, and of every prompt."""
    found, left = set[int](), iter([*prompts, *texts])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    while part := list(islice(left, TOKENISED_AT_ONCE)):
        for one in tokenizer.encode_batch_fast(part):
            found.update(one.ids)
    return found


def kept_pieces(spec: Mapping[str, Any], used: set[int]) -> NDArray[np.int64]:
    """The ids of the pieces that stay, ascending, int64 [n]; `spec` is a tokenizer of kind Unigram as JSON.

    The least probable piece is among them: by it the tokenizer weighs unknown signs.
    """
    vocabulary = spec["model"]["vocab"]
    special = {token["id"] for token in spec["added_tokens"]} | {spec["model"]["unk_id"]}
    scores = np.array([score for _, score in vocabulary])
    signs = {at for at, (piece, _) in enumerate(vocabulary) if len(piece.removeprefix(SPACE)) <= 1}
    common = np.argsort(-scores, kind="stable")[:COMMON].tolist()
    kept = used | special | signs | set(common) | {int(scores.argmin())}
    return np.array(sorted(at for at in kept if at < len(vocabulary)), np.int64)


def trimmed_spec(spec: Mapping[str, Any], kept: NDArray[np.int64]) -> dict[str, Any]:
    """The tokenizer with the pieces at `kept` alone, as JSON; its special tokens have their new ids."""
    new = {old: at for at, old in enumerate(kept.tolist())}
    vocabulary = [spec["model"]["vocab"][old] for old in new]
    own = spec["model"] | {"vocab": vocabulary, "unk_id": new[spec["model"]["unk_id"]]}
    added = [token | {"id": new[token["id"]]} for token in spec["added_tokens"] if token["id"] in new]
    after = spec["post_processor"]
    if after is not None and after["type"] == "TemplateProcessing":
        tokens = {
            name: token | {"ids": [new[old] for old in token["ids"]]} for name, token in after["special_tokens"].items()
        }
        after = after | {"special_tokens": tokens}
    return {**spec, "model": own, "added_tokens": added, "post_processor": after, "padding": None, "truncation": None}


def _like(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer over another backend with the names, lengths and inputs of `tokenizer`."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        **{name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)},
    )
