"""Losses of the towers, as pure functions of tensors. Masked logits are minus infinity, never a magic constant."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def catalogue_softmax(logits: Tensor, position: Tensor, target: Tensor, positives: tuple[Tensor, Tensor]) -> Tensor:
    """Softmax cross-entropy of several targets per position; no positive is another's negative.

    `logits` float [n_positions, n_candidates]; pair i says that `position[i]` has the candidate `target[i]`, int64
    [n_pairs]; `positives` are int64 (rows, columns) of all that the user of a position likes, targets included. Each
    pair's loss is -log(exp(l) / (exp(l) + sum of exp over the non-positives)); the mean over pairs is returned.
    """
    negatives = logits.index_put(positives, logits.new_tensor(-torch.inf))
    against = torch.logsumexp(negatives, dim=1)[position]
    own = logits[position, target]
    return F.softplus(against - own).mean()


def in_batch_softmax(queries: Tensor, items: Tensor, is_positive: Tensor, *, temperature: float) -> Tensor:
    """Softmax cross-entropy of query i against item i, all other items of the batch being its negatives.

    `queries`, `items` float [b, dim], unit length; `is_positive` bool [b, b], true where item j is known to be good
    for query i (duplicates of item i included): those never count as negatives.
    """
    logits = queries @ items.T / temperature
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    masked = logits.masked_fill(is_positive & ~own, -torch.inf)
    return F.cross_entropy(masked, torch.arange(len(queries), device=queries.device))


def log_expected_count(frequency: Tensor, batch: int, uniform: int) -> Tensor:
    """The log of how often each item is expected among distinct candidates, which is at most once: the chance to be
    one of `batch` targets drawn by `frequency` (float [n_items], sums to 1) or of `uniform` draws over the catalogue.

    Subtracted from the logits of all candidates, the target's included, it makes the softmax over a sample one over
    the catalogue (Jean et al. 2015). The expected number of draws would be too much for what is drawn more than once.
    """
    evenly = torch.full_like(frequency, 1 / len(frequency), dtype=torch.float64)
    missed = batch * torch.log1p(-frequency.double()) + uniform * torch.log1p(-evenly)
    return torch.log(-torch.expm1(missed)).to(frequency.dtype)
