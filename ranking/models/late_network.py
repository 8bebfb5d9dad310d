"""Late interaction: a BERT that reads the two texts of a pair apart, and a small head that compares their tokens.

Khattab and Zaharia, "ColBERT" (SIGIR 2020): what is made of an item's text does not depend on who asks, so that it can
be made when an index is built. Here a cross-encoder's own layers are taken for it: no token attends to the other text,
and an item's positions begin at a fixed place. The head reads, of the likest item token of each of the user's tokens,
a weighted and a plain mean and the least, the mean over item tokens of the likest of the user's, and how like the texts
are as wholes; it learns the logits of the full cross-encoder.
"""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranking.models.cross_encoder import open_cross_encoder, takes_segments
from ranking.models.late_layout import HEAD_FEATURES, HEAD_HIDDEN, ITEM_POSITION, SIMILARITY_SCALE, TOKEN_WIDTH
from retrieval.errors import BadBundle, BadConfig

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification
    from transformers.modeling_outputs import SequenceClassifierOutput


class LateHead(nn.Module):
    """States of both texts' tokens to one logit a pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, TOKEN_WIDTH, bias=False)
        self.weigh = nn.Linear(width, 1)
        self.mix, self.score = nn.Linear(HEAD_FEATURES, HEAD_HIDDEN), nn.Linear(HEAD_HIDDEN, 1)

    def tokens(self, states: Tensor) -> Tensor:
        """float [b, l, width] -> float [b, l, TOKEN_WIDTH + 1]: each token's unit vector, then its weight (a logit)."""
        return torch.cat([functional.normalize(self.project(states), dim=-1), self.weigh(states)], dim=-1)

    def forward(self, states: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """float [b, l, width], and bool [b, l] which tokens are of which text -> [b, 1]."""
        told = self.tokens(states).float()
        vectors, weights = told[..., :TOKEN_WIDTH], told[..., TOKEN_WIDTH]
        likeness = (vectors @ vectors.transpose(1, 2)).masked_fill(~(user[:, :, None] & item[:, None, :]), -1.0)
        best, back = likeness.amax(dim=2), likeness.amax(dim=1)
        share = weights.masked_fill(~user, -torch.inf).softmax(dim=1)
        at = torch.arange(item.shape[1], device=item.device)
        last = torch.where(item, at, -1).amax(dim=1)  # the item's closing token, which stands for all of it
        whole = (vectors[:, 0] * vectors[torch.arange(len(last), device=item.device), last]).sum(dim=1)
        features = [
            (share * best).sum(dim=1), _mean(best, user), best.masked_fill(~user, 1.0).amin(dim=1), _mean(back, item),
            whole,
        ]  # fmt: skip
        logits: Tensor = self.score(functional.relu(self.mix(SIMILARITY_SCALE * torch.stack(features, dim=1))))
        return logits


def make_late_interaction(model: CrossEncoder) -> None:
    """Make a BERT classifier with one output read the two texts of a pair apart, an item's positions beginning at
    ITEM_POSITION, and score them by a LateHead, drawn anew unless it has one.

    Raises BadConfig for any other kind of model.
    """
    from transformers import BertForSequenceClassification

    network = model.model
    if not isinstance(network, BertForSequenceClassification) or not takes_segments(model):
        raise BadConfig(
            "late interaction is made of a BERT with segments; leave ranking.strategy=late to such a ranker"
        )
    if late_head(model) is None:
        network.add_module("classifier", LateHead(network.config.hidden_size).to(network.device))
    network.forward = MethodType(_apart, network)


def late_head(model: CrossEncoder) -> LateHead | None:
    """The head of a model that reads texts apart, None of any other."""
    head = getattr(model.model, "classifier", None)
    return head if isinstance(head, LateHead) else None


def open_late_interaction(folder: Path) -> CrossEncoder:
    """A model that was saved after `make_late_interaction`. Raises BadBundle where the folder holds no such model."""
    from safetensors.torch import load_file

    model = open_cross_encoder(folder)
    make_late_interaction(model)
    head = late_head(model)
    assert head is not None
    weights = load_file(folder / "model.safetensors")
    own = {name.removeprefix("classifier."): one for name, one in weights.items() if name.startswith("classifier.")}
    try:
        head.load_state_dict(own)
    except RuntimeError as error:
        raise BadBundle(f"{folder} is no model of late interaction; train the ranker again") from error
    return model


class TokenVectors(nn.Module):
    """Single texts to their tokens' vectors and weights, float [b, l, TOKEN_WIDTH + 1].

    All texts of a batch are of one side: `token_type_ids` is 0 for users' texts and 1 for items'.
    """

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        head = late_head(model)
        assert head is not None
        self.body, self.head = _body(model.model), head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """int64 [b, l] each, of a text's own tokens and its special ones."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)[None] + ITEM_POSITION * token_type_ids
        states = self.body(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=places
        ).last_hidden_state
        return self.head.tokens(states)


def _apart(
    network: BertForSequenceClassification,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor,
    **_: object,
) -> SequenceClassifierOutput:
    """The forward of `BertForSequenceClassification` over pairs, int64 [b, l], their texts apart."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    head: LateHead = network.get_submodule("classifier")  # type: ignore[assignment]
    real, item = attention_mask.bool(), token_type_ids.bool()
    together = (item[:, :, None] == item[:, None, :]) & real[:, None, :]
    at = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
    begun = (real & ~item).sum(dim=1, keepdim=True)  # the item's first place
    places = torch.where(item, at - begun + ITEM_POSITION, at).clamp(max=network.config.max_position_embeddings - 1)
    states = _body(network)(
        input_ids=input_ids, attention_mask=together[:, None], token_type_ids=token_type_ids, position_ids=places
    ).last_hidden_state
    return SequenceClassifierOutput(logits=head(states, real & ~item, real & item))


def _body(network: object) -> nn.Module:
    body: nn.Module = network.bert  # type: ignore[attr-defined]
    return body


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    return values.masked_fill(~kept, 0.0).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
