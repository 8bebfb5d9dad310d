"""What the cross-encoder minimises: pure functions of logits and labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over pairs of the binary cross-entropy with labels in [0, 1], bought or a scaled grade.

    logits and labels are float [n]; the answer is a scalar. A graded label g has its minimum at sigmoid(logit) = g.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def group_softmax(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The cross-entropy of a softmax over each group with its labels, scaled to sum to 1; the mean over groups.

    logits and labels are float [g, m], mask is bool [g, m], False where a short group is padded; the answer is a
    scalar. With one label of 1 and the rest 0 this is the localised contrastive loss of Gao et al. (ECIR 2021);
    graded labels share the target out. A group without a positive label teaches nothing and does not count; without
    any group that does, the loss is 0.
    """
    logits = logits.masked_fill(~mask, -float("inf"))
    labels = labels.masked_fill(~mask, 0.0)
    mass = labels.sum(dim=1, keepdim=True)
    useful = mass.squeeze(1) > 0
    target = labels[useful] / mass[useful]
    log_share = functional.log_softmax(logits[useful], dim=1).masked_fill(~mask[useful], 0.0)
    return -(target * log_share).sum() / useful.sum().clamp(min=1)


def mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over pairs of (sigmoid(logit) - label)^2, labels in [0, 1]: the squared error of a scaled grade.

    logits and labels are float [n]; the answer is a scalar.
    """
    return functional.mse_loss(logits.sigmoid(), labels)


def logit_mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over pairs of (logit - label)^2, labels a teacher's logits: distillation of Hofstaetter et al. (2020).

    logits and labels are float [n]; the answer is a scalar.
    """
    return functional.mse_loss(logits, labels)


def list_net(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The cross-entropy between the softmax of each group's labels and that of its logits; the mean over groups.

    Shapes as in `group_softmax`. ListNet's top-one probabilities (Cao et al., ICML 2007): unlike there, a group of
    equal labels has a target too, the uniform one.
    """
    target = labels.masked_fill(~mask, -torch.inf).softmax(dim=1)
    log_share = logits.masked_fill(~mask, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0.0)
    return -(target * log_share).sum(dim=1).mean()


def lambda_loss(logits: Tensor, labels: Tensor, mask: Tensor, *, span: float = 1.0) -> Tensor:
    """NDCG-Loss2 of the LambdaLoss framework (Wang et al., CIKM 2018), in bits; the mean over groups that have a gain.

    Shapes as in `group_softmax`. Each pair of a better and a worse item costs log2(1 + e^(worse - better)), weighted by
    the difference of their gains 2^(span * label) - 1 over the ideal DCG, and by the difference of 1 / discount of two
    places as far apart as they stand now. Without any group that has a gain the loss is 0.
    """
    order = logits.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    logits, labels, mask = (values.gather(1, order) for values in (logits, labels, mask))
    place = torch.arange(1, logits.shape[1] + 2, device=logits.device)
    inverse_discount = 1.0 / torch.log2(1.0 + place)
    gain = (torch.exp2(span * labels) - 1.0) * mask
    ideal = (gain.sort(dim=1, descending=True).values * inverse_discount[:-1]).sum(dim=1)
    useful = ideal > 0
    gain = gain[useful] / ideal[useful, None]
    apart = (place[:-1, None] - place[None, :-1]).abs()
    weight = torch.where(apart > 0, inverse_discount[apart - 1] - inverse_discount[apart], 0.0)
    better = gain[:, :, None] - gain[:, None, :]
    counts = (better > 0) & mask[useful, :, None] & mask[useful, None, :]
    costs = functional.softplus(logits[useful, None, :] - logits[useful, :, None]) / math.log(2.0)
    return (costs * weight * better.masked_fill(~counts, 0.0)).sum() / useful.sum().clamp(min=1)


PAIR_LOSSES = {"bce": binary_cross_entropy, "mse": mean_squared_error, "logit_mse": logit_mean_squared_error}
GROUP_LOSSES = {"softmax": group_softmax, "listnet": list_net, "lambda": lambda_loss}
