"""Losses of the towers, as pure functions of tensors. Masked logits are minus infinity, never a magic constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """Binary cross-entropy of several targets per position, over the arguments of `catalogue_softmax`.

    A pair's loss is that of its target as a positive plus the mean, not the sum, over its position's negatives: both
    sides weigh the same however many candidates there are (Kang and McAuley 2018 draw one negative a positive). What is
    liked and no target is on neither side.
    """
    negatives = logits.index_put(positives, logits.new_tensor(-torch.inf))
    against = F.softplus(negatives).sum(dim=1) / torch.isfinite(negatives).sum(dim=1).clamp(min=1)
    return weighted_mean(F.softplus(-logits[position, target]) + against[position], weight)


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of [n], weighted by `weight` [n] where it is given."""
    return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()


def in_batch_softmax(
    queries: Tensor, items: Tensor, is_positive: Tensor, *, temperature: float, log_q: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy of query i against item i, all other candidates being its negatives.

    `queries` float [b, dim] and `items` float [n_candidates, dim], unit length: the items of the b pairs first, then
    hard negatives, if any. `is_positive` bool [b, n_candidates], true where candidate j is known to be good
    for query i (duplicates of item i included) or repeats another candidate: those never count as negatives. `log_q`
    float [n_candidates] is taken from the logits of all candidates, the target's included, to undo that frequent items
    are frequent negatives (Yi et al. 2019).
    """
    logits = queries @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q
    masked = logits.masked_fill(is_positive & ~own_items(is_positive), -torch.inf)
    return F.cross_entropy(masked, torch.arange(len(queries), device=queries.device))


def own_items(is_positive: Tensor) -> Tensor:
    """Which candidate is the pair's own, bool of the shape [b, n_candidates] of `is_positive`: the first b, in order.

    >>> own_items(torch.zeros(2, 3)).tolist()
    [[True, False, False], [False, True, False]]
    """
    return torch.eye(*is_positive.shape, dtype=torch.bool, device=is_positive.device)


def graded_mse(scores: Tensor, grades: Tensor) -> Tensor:
    """Mean squared error of cosines against grades between 0 and 1, both float [n]."""
    return F.mse_loss(scores, grades)


def margin_distillation(
    positive: Tensor, negative: Tensor, teacher_positive: Tensor, teacher_negative: Tensor
) -> Tensor:
    """Mean squared error of the margin between a positive and a negative against the teacher's (Margin-MSE,
    Hofstätter et al. 2020); all float [n], pair by pair."""
    return F.mse_loss(positive - negative, teacher_positive - teacher_negative)


def matryoshka(loss: Callable[..., Tensor], dims: Sequence[int], *vectors: Tensor) -> Tensor:
    """The mean of a loss over the first so many dimensions of all vectors, unit length again (Kusupati et al. 2022).

    `vectors` float [n, dim] are what `loss` is called with; each of `dims` is at most dim.
    """
    cut = ([F.normalize(part[:, :dim], dim=-1) for part in vectors] for dim in dims)
    return torch.stack([loss(*parts) for parts in cut]).mean()


def log_expected_count(*pools: tuple[Tensor, int]) -> Tensor:
    """The log of how often each item is expected among distinct candidates, which is at most once: the chance to be
    one of the draws of any pool, the same whichever of them it came from.

    Each pool is a distribution over the items, float [n_items] that sums to 1 (or to 0: it never draws), and a number
    of draws: targets of the batch by their frequency, even draws over the catalogue, neighbours of
    targets. Subtracted from the logits of all candidates, the target's included, it makes the softmax over a sample one
    over the catalogue (Jean et al. 2015). The expected number of draws would be too much for what is drawn more than
    once.
    """
    missed = sum(draws * torch.log1p(-chance.double().clamp(max=1 - 1e-12)) for chance, draws in pools)
    assert isinstance(missed, Tensor)
    return torch.log(-torch.expm1(missed)).to(pools[0][0].dtype)
