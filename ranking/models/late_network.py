"""Late interaction: a BERT that encodes the two texts of a pair separately, and a small head that compares tokens.

After Khattab and Zaharia, "ColBERT" (SIGIR 2020): an item's token vectors do not depend on the query, so that they are
computed when an index is built. The layers are those of a cross-encoder, but no token attends to the other text, and an
item's position ids begin at a fixed number. From the similarities of all user tokens with all item tokens, the head
reads five numbers: for each user token its most similar item token, as a weighted mean, a plain mean and the minimum;
for each item token its most similar user token, as a mean; and the similarity of the first user token with the last
item token. It is distilled from the full cross-encoder's logits.
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
    """From the hidden states of both texts' tokens to one logit a pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, TOKEN_WIDTH, bias=False)
        self.weigh = nn.Linear(width, 1)
        self.mix, self.score = nn.Linear(HEAD_FEATURES, HEAD_HIDDEN), nn.Linear(HEAD_HIDDEN, 1)

    def tokens(self, states: Tensor) -> Tensor:
        """float [b, l, width] -> float [b, l, TOKEN_WIDTH + 1]: each token's unit vector, then its weight (a logit)."""
        return torch.cat([functional.normalize(self.project(states), dim=-1), self.weigh(states)], dim=-1)

    def forward(self, states: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """states float [b, l, width]; user and item bool [b, l] say whose a token is -> logits float [b, 1]."""
        outputs = self.tokens(states).float()
        vectors, weights = outputs[..., :TOKEN_WIDTH], outputs[..., TOKEN_WIDTH]
        similarity = (vectors @ vectors.transpose(1, 2)).masked_fill(~(user[:, :, None] & item[:, None, :]), -1.0)
        best, back = similarity.amax(dim=2), similarity.amax(dim=1)
        share = weights.masked_fill(~user, -torch.inf).softmax(dim=1)
        at = torch.arange(item.shape[1], device=item.device)
        last = torch.where(item, at, -1).amax(dim=1)  # the item's closing special token stands for its whole text
        whole = (vectors[:, 0] * vectors[torch.arange(len(last), device=item.device), last]).sum(dim=1)
        features = [
            (share * best).sum(dim=1), _mean(best, user), best.masked_fill(~user, 1.0).amin(dim=1), _mean(back, item),
            whole,
        ]  # fmt: skip
        logits: Tensor = self.score(functional.relu(self.mix(SIMILARITY_SCALE * torch.stack(features, dim=1))))
        return logits


def make_late_interaction(model: CrossEncoder) -> None:
    """Make a BERT classifier with one output encode the two texts of a pair separately and score them by a LateHead.

    The head is new unless the model has one. Raises BadConfig for any other kind of model.
    """
    from transformers import BertForSequenceClassification

    network = model.model
    if not isinstance(network, BertForSequenceClassification) or not takes_segments(model):
        raise BadConfig("late interaction needs a BERT with token types; set another ranking.model or ranking.strategy")
    if late_head(model) is None:
        network.add_module("classifier", LateHead(network.config.hidden_size).to(network.device))
    network.forward = MethodType(_forward_separately, network)


def late_head(model: CrossEncoder) -> LateHead | None:
    """The head of a model of late interaction, None of any other model."""
    head = getattr(model.model, "classifier", None)
    return head if isinstance(head, LateHead) else None


def open_late_interaction(folder: Path) -> CrossEncoder:
    """Open a saved model of late interaction; raises BadBundle where the folder holds none."""
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
        """All int64 [b, l], of one text with its special tokens."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)[None] + ITEM_POSITION * token_type_ids
        states = self.body(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=places
        ).last_hidden_state
        return self.head.tokens(states)


def _forward_separately(
    network: BertForSequenceClassification,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor,
    **_: object,
) -> SequenceClassifierOutput:
    """Replaces the forward of `BertForSequenceClassification`: pairs int64 [b, l], their texts encoded separately."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    head: LateHead = network.get_submodule("classifier")  # type: ignore[assignment]
    real, item = attention_mask.bool(), token_type_ids.bool()
    same_text = (item[:, :, None] == item[:, None, :]) & real[:, None, :]
    at = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
    item_start = (real & ~item).sum(dim=1, keepdim=True)
    places = torch.where(item, at - item_start + ITEM_POSITION, at).clamp(
        max=network.config.max_position_embeddings - 1
    )
    states = _body(network)(
        input_ids=input_ids, attention_mask=same_text[:, None], token_type_ids=token_type_ids, position_ids=places
    ).last_hidden_state
    return SequenceClassifierOutput(logits=head(states, real & ~item, real & item))


def _body(network: object) -> nn.Module:
    body: nn.Module = network.bert  # type: ignore[attr-defined]
    return body


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    return values.masked_fill(~kept, 0.0).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
