"""What the cross-encoder minimises: pure functions of logits and labels."""

from __future__ import annotations

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


PAIR_LOSSES = {"bce": binary_cross_entropy, "mse": mean_squared_error, "logit_mse": logit_mean_squared_error}
GROUP_LOSSES = {"softmax": group_softmax}
