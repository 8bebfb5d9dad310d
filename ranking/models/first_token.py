"""A BERT classifier's last layer, computed for the first token only: all that its pooler reads."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from transformers.models.bert.modeling_bert import BertLayer


def read_first_token_only(model: CrossEncoder) -> bool:
    """Make a BERT classifier's last layer compute only the position that its pooler reads, a sixth of its cost.

    Logits, gradients, weights and saved files stay the same. Returns whether that was done: models other than
    `BertForSequenceClassification` with its own head are left as they are.
    """
    from transformers import BertForSequenceClassification

    network = model.model
    if not isinstance(network, BertForSequenceClassification) or network.config.is_decoder:
        return False
    if not isinstance(network.get_submodule("classifier"), nn.Linear):  # a head of late interaction reads every token
        return False
    if network.config._attn_implementation not in ("sdpa", "eager"):
        return False
    layer = network.bert.encoder.layer[-1]
    layer.forward = MethodType(_first_token, layer)
    return True


def _first_token(
    layer: BertLayer, hidden: Tensor, attention_mask: Tensor | None = None, *_: object, **__: object
) -> Tensor:
    """A BertLayer from [b, l, width] to [b, 1, width]: keys and values of all positions, the query of the first."""
    own = layer.attention.self
    first = hidden[:, :1]
    query, key, value = (
        project(states).unflatten(-1, (own.num_attention_heads, own.attention_head_size)).transpose(1, 2)
        for project, states in ((own.query, first), (own.key, hidden), (own.value, hidden))
    )
    attended = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if attention_mask is None else attention_mask[:, :, :1],
        dropout_p=own.dropout.p if own.training else 0.0,
        scale=own.scaling,
    )
    read = layer.attention.output(attended.transpose(1, 2).flatten(2), first)
    output: Tensor = layer.output(layer.intermediate(read), read)
    return output
