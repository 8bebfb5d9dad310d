"""Losses of the towers, as pure functions of tensors. Masked logits are minus infinity, never a magic constant."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def catalogue_softmax(
    logits: Tensor,
    position: Tensor,
    target: Tensor,
    positives: tuple[Tensor, Tensor],
    weight: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of several targets per position; no positive is another's negative.

    `logits` float [n_positions, n_candidates]; pair i says that `position[i]` has the candidate `target[i]`, int64
    [n_pairs]; `positives` are int64 (rows, columns) of all that the user of a position likes, targets included. Each
    pair's loss is -log(exp(l) / (exp(l) + sum of exp over the non-positives)); the mean over pairs is returned,
    weighted by `weight` float [n_pairs] where it is given.
    """
    negatives = logits.index_put(positives, logits.new_tensor(-torch.inf))
    against = torch.logsumexp(negatives, dim=1)[position]
    own = logits[position, target]
    return weighted_mean(F.softplus(against - own), weight)


def catalogue_bce(
    logits: Tensor,
    position: Tensor,
    target: Tensor,
    positives: tuple[Tensor, Tensor],
    weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of each pair: its target against 1, beside the mean over the non-positives against 0, so
    that however many candidates there are both sides weigh the same (Kang and McAuley 2018 draw one negative a
    positive).

    The arguments are those of `catalogue_softmax`.
    """
    negative = torch.ones_like(logits).index_put(positives, logits.new_tensor(0.0))
    against = (F.softplus(logits) * negative).sum(dim=1) / negative.sum(dim=1).clamp(min=1)
    return weighted_mean(F.softplus(-logits[position, target]) + against[position], weight)


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of [n], weighted by `weight` [n] where it is given."""
    return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()


def in_batch_softmax(queries: Tensor, items: Tensor, is_positive: Tensor, *, temperature: float) -> Tensor:
    """Softmax cross-entropy of query i against item i, all other items of the batch being its negatives.

    `queries`, `items` float [b, dim], unit length; `is_positive` bool [b, b], true where item j is known to be good
    for query i (duplicates of item i included): those never count as negatives.
    """
    logits = queries @ items.T / temperature
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    masked = logits.masked_fill(is_positive & ~own, -torch.inf)
    return F.cross_entropy(masked, torch.arange(len(queries), device=queries.device))


def log_expected_count(*pools: tuple[Tensor, int]) -> Tensor:
    """The log of how often each item is expected among distinct candidates, which is at most once: the chance to be
    one of the draws of any pool, the same whichever of them it came from.

    Each pool is a distribution over the items, float [n_items] that sums to 1 (or to 0: it never draws), and a number
    of draws: targets of the batch and of earlier ones by their frequency, even draws over the catalogue, neighbours of
    targets. Subtracted from the logits of all candidates, the target's included, it makes the softmax over a sample one
    over the catalogue (Jean et al. 2015). The expected number of draws would be too much for what is drawn more than
    once.
    """
    missed = sum(draws * torch.log1p(-chance.double().clamp(max=1 - 1e-12)) for chance, draws in pools)
    assert isinstance(missed, Tensor)
    return torch.log(-torch.expm1(missed)).to(pools[0][0].dtype)
