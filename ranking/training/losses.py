"""The cross-encoder's losses: pure functions of logits and labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The binary cross-entropy with labels in [0, 1] (bought or not, or a scaled grade), averaged over pairs: a scalar.

    logits and labels are float [n]. The minimum for a graded label g is at sigmoid(logit) = g.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def group_softmax(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The cross-entropy of each group's softmax with its labels, scaled to sum to 1, averaged over groups: a scalar.

    logits and labels are float [g, m]; mask bool [g, m] is False at padding. With one label of 1 and the rest 0 this is
    the localised contrastive loss of Gao et al. (ECIR 2021); graded labels share the target mass. Groups without a
    positive label are ignored; where all are, the loss is 0.
    """
    logits = logits.masked_fill(~mask, -float("inf"))
    labels = labels.masked_fill(~mask, 0.0)
    mass = labels.sum(dim=1, keepdim=True)
    useful = mass.squeeze(1) > 0
    target = labels[useful] / mass[useful]
    log_share = functional.log_softmax(logits[useful], dim=1).masked_fill(~mask[useful], 0.0)
    return -(target * log_share).sum() / useful.sum().clamp(min=1)


def mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """(sigmoid(logit) - label)^2 with labels in [0, 1], averaged over pairs: the squared error of a scaled grade.

    logits and labels are float [n].
    """
    return functional.mse_loss(logits.sigmoid(), labels)


def logit_mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """(logit - label)^2 where labels are a teacher's logits, averaged over pairs; see Hofstaetter et al. (2020).

    logits and labels are float [n].
    """
    return functional.mse_loss(logits, labels)


PAIR_LOSSES = {"bce": binary_cross_entropy, "mse": mean_squared_error, "logit_mse": logit_mean_squared_error}
GROUP_LOSSES = {"softmax": group_softmax}
