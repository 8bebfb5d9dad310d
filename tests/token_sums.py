"""A model of tokens that can be worked out by hand, and texts for it."""

from __future__ import annotations

import torch

from retrieval.encoders.batching import Encoded


class Sums(torch.nn.Module):
    """A model that can be worked out by hand: the sum of the tokens, of their segments, and how many there are."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        rows = [(input_ids * attention_mask).sum(1), (segments * attention_mask).sum(1), attention_mask.sum(1)]
        return torch.stack(rows, dim=1).float()


def texts(lengths: list[int]) -> Encoded:
    """A text of each length, whose tokens and segments are told apart."""
    ids = [[100 * row + place + 1 for place in range(length)] for row, length in enumerate(lengths)]
    return Encoded(ids, [[place % 2 for place in range(length)] for length in lengths])


def by_hand(encoded: Encoded) -> list[list[int]]:
    return [[sum(ids), sum(kinds), len(ids)] for ids, kinds in zip(*encoded, strict=True)]
