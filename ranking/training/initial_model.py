"""The model that a training starts from: a pretrained encoder, cut and frozen as set, with a new head."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from torch import nn

from ranking.models.first_token import read_first_token_only
from ranking.models.late_network import make_late_interaction
from ranking.models.pair_tokens import PairTokenizer
from ranking.training.lora import add_lora
from ranking.training.settings import RankerTraining
from retrieval.encoders.text_encoder import named_prompts, source_folder, source_prompts
from retrieval.errors import BadBundle, BadConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MINILM_COST = 6 * 384**2  # layers times the square of their width


def new_cross_encoder(start: str | Path, settings: RankerTraining, *, device: str = "cpu") -> CrossEncoder:
    """A CrossEncoder with one output on a pretrained encoder, with a new head drawn from the seed.

    An encoder's prompts for queries and documents become those of `user` and `item`, which are saved with the model.
    `start` is a folder or a model id. Raises BadBundle where it does not open, and what `cut_and_freeze` and
    `make_late_interaction` raise.
    """
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        try:
            model: CrossEncoder = CrossEncoder(str(start), num_labels=1, device=device)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise BadBundle(f"{start} does not open as a pretrained encoder: {str(error).splitlines()[0]}") from error
    model.prompts = {**pair_prompts(start)}
    model.max_seq_length = min(settings.max_length, model.max_seq_length or settings.max_length)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            of_attention = re.search(r"\.(self|attn)\.dropout$", name)
            module.p = settings.attention_dropout if of_attention else settings.dropout
    if model.model is not None:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            cut_and_freeze(model.model, settings)
    if settings.late_interaction:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            make_late_interaction(model)
    else:
        read_first_token_only(model)
    return model


def relative_cost(start: str | Path, settings: RankerTraining) -> float:
    """How many times as long as MiniLM-L6 an encoder takes for a token, by its layers and their width; at least 1, and
    1 for one that does not tell them."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(start))
        layers, width = settings.layers or config.num_hidden_layers, config.hidden_size
    except (OSError, ValueError, AttributeError):  # opening the model says what is wrong with it
        return 1.0
    return max(1.0, float(layers * width**2 / MINILM_COST))


def cut_and_freeze(network: PreTrainedModel, settings: RankerTraining) -> None:
    """Remove all but the first `layers` of an encoder, freeze parameters as set, and add LoRA to the other layers.

    Raises BadConfig where it has fewer layers than are to be kept or frozen, and what `add_lora` raises.
    """
    depth = network.config.num_hidden_layers
    stack = next((one for one in network.modules() if isinstance(one, nn.ModuleList) and len(one) == depth), None)
    kept = settings.layers or depth
    if stack is None or max(kept, settings.freeze_layers) > depth:
        raise BadConfig(
            f"the encoder has {depth} layers, and {kept} are to be kept and {settings.freeze_layers} frozen; "
            "lower layers or freeze_layers"
        )
    del stack[kept:]
    network.config.num_hidden_layers = kept
    if settings.freeze_word_embeddings:
        network.get_input_embeddings().weight.requires_grad_(False)
    if settings.freeze_layers:
        for name, parameter in network.named_parameters():
            if "embeddings" in name:
                parameter.requires_grad_(False)
        stack[: settings.freeze_layers].requires_grad_(False)
    if settings.lora is not None:
        add_lora(network, stack, settings.lora)


def pair_prompts(start: str | Path) -> dict[str, str]:
    """The prompts of a pair's texts, `user` and `item`, of a cross-encoder or an encoder, a folder or a model id."""
    folder = source_folder(start)
    if folder is not None and (own := named_prompts(folder)).keys() & {"user", "item"}:
        return own
    sides = source_prompts(start)
    return {name: sides[side] for name, side in (("user", "query"), ("item", "document")) if side in sides}


def tokenizer_of(model: CrossEncoder) -> PairTokenizer:
    """The model's tokenizer, as serving will tokenise pairs."""
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    pad_id, prompts = model.tokenizer.pad_token_id or 0, {side: text for side, text in model.prompts.items() if text}
    return PairTokenizer(tokenizer, max_length=model.max_seq_length or 512, pad_id=pad_id, prompts=prompts)
