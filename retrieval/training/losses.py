"""Losses of the towers as pure functions of tensors; what is masked gets a logit of minus infinity."""

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
    """Softmax cross-entropy with several targets per position, in which no positive is a negative of another.

    `logits` float [n_positions, n_candidates]. Pair i states that `position[i]` has the target candidate `target[i]`,
    int64 [n_pairs] each. `positives` are the int64 (rows, columns) of all known positives of each position's user, the
    targets included. A pair's loss is -log(exp(l) / (exp(l) + sum of exp over the non-positives)). Returns the mean
    over pairs, weighted by `weight` float [n_pairs] if given.
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

    A pair's loss is that of its target as a positive plus the mean over its position's negatives, so that both sides
    weigh the same however many candidates there are (Kang and McAuley 2018 draw one negative per positive). A known
    positive that is no target counts on neither side.
    """
    negatives = logits.index_put(positives, logits.new_tensor(-torch.inf))
    against = F.softplus(negatives).sum(dim=1) / torch.isfinite(negatives).sum(dim=1).clamp(min=1)
    return weighted_mean(F.softplus(-logits[position, target]) + against[position], weight)


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of `losses` [n], weighted by `weight` [n] if given."""
    return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()


def in_batch_softmax(
    queries: Tensor,
    items: Tensor,
    is_positive: Tensor,
    *,
    temperature: float,
    log_q: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy of query i against item i, with all other candidates as negatives.

    `queries` float [b, dim] and `items` float [n_candidates, dim] have unit length; the items of the b pairs come
    first, then any hard negatives. `is_positive` bool [b, n_candidates] is true where candidate j must not be a
    negative of query i: known positives, duplicates of item i, repeats of another candidate. `log_q` float
    [n_candidates] is subtracted from all logits, the target's included, which corrects for frequent items being
    frequent in-batch negatives (Yi et al. 2019). Returns the mean over pairs, weighted by `weight` float [b] if given.
    """
    logits = queries @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q
    masked = logits.masked_fill(is_positive & ~own_items(is_positive), -torch.inf)
    own = torch.arange(len(queries), device=queries.device)
    return weighted_mean(F.cross_entropy(masked, own, reduction="none"), weight)


def own_items(is_positive: Tensor) -> Tensor:
    """Mask of each pair's own candidate, the i-th for pair i; bool in the shape [b, n_candidates] of `is_positive`.

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
    """Mean squared error between the student's and the teacher's margins of a positive over a negative.

    All arguments are logits, float [n]. Margin-MSE (Hofstätter et al. 2020).
    """
    return F.mse_loss(positive - negative, teacher_positive - teacher_negative)


def matryoshka(loss: Callable[..., Tensor], dims: Sequence[int], *vectors: Tensor) -> Tensor:
    """The mean of a loss over several prefixes of the vectors (Matryoshka, Kusupati et al. 2022).

    For each of `dims`, `loss` is called with `vectors` float [n, dim] cut to that many dimensions and scaled to unit
    length again.
    """
    cut = ([F.normalize(part[:, :dim], dim=-1) for part in vectors] for dim in dims)
    return torch.stack([loss(*parts) for parts in cut]).mean()


def log_expected_count(*pools: tuple[Tensor, int]) -> Tensor:
    """The log probability that each item is among the distinct candidates of a step, float [n_items].

    Each pool is a distribution over the items, float [n_items] that sums to 1 (or to 0 if it never draws), with its
    number of independent draws: targets by frequency, uniform draws, neighbours of targets. Subtracted from all logits,
    the target's included, it turns the softmax over the sample into an estimate of that over the catalogue (Jean et al.
    2015). Candidates are distinct, so the expected number of draws would overstate frequent items.
    """
    missed = sum(draws * torch.log1p(-chance.double().clamp(max=1 - 1e-12)) for chance, draws in pools)
    assert isinstance(missed, Tensor)
    return torch.log(-torch.expm1(missed)).to(pools[0][0].dtype)
