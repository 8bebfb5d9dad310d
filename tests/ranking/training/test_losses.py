"""The losses, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ranking.training.losses import (
    binary_cross_entropy,
    group_softmax,
    logit_mean_squared_error,
    mean_squared_error,
)


def test_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)])  # probabilities 1/2 and 3/4
    labels = torch.tensor([1.0, 0.25])
    expected = (-math.log(0.5) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)) / 2
    assert binary_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_binary_cross_entropy_of_a_grade_is_least_at_the_grade() -> None:
    logits = torch.tensor([math.log(0.3 / 0.7)], requires_grad=True)
    binary_cross_entropy(logits, torch.tensor([0.3])).backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0.0, abs=1e-7)


def test_group_softmax_by_hand() -> None:
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 7.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])  # the 7 pads a short group
    expected = (-math.log(2 / 4) - math.log(1 / 2)) / 2
    assert group_softmax(logits, labels, mask).item() == pytest.approx(expected, rel=1e-6)


def test_group_softmax_spreads_over_grades() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    loss = group_softmax(logits, torch.tensor([[1.0, 0.5]]), torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(-(2 / 3) * math.log(3 / 4) - (1 / 3) * math.log(1 / 4), rel=1e-6)


def test_a_group_without_a_positive_teaches_nothing() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    loss = group_softmax(logits, labels, mask)
    assert loss.item() == pytest.approx(math.log(2.0), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == [0.0, 0.0]
    assert group_softmax(logits, torch.zeros(2, 2), mask).item() == 0.0


def test_pads_get_no_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    group_softmax(logits, torch.tensor([[1.0, 0.0, 1.0]]), mask).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 2].item() == 0.0


def test_mean_squared_error_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)])
    assert mean_squared_error(logits, torch.tensor([1.0, 0.25])).item() == pytest.approx((0.25 + 0.25) / 2, rel=1e-6)


def test_logit_mean_squared_error_by_hand() -> None:
    assert logit_mean_squared_error(torch.tensor([1.0, -3.0]), torch.tensor([2.0, -1.0])).item() == pytest.approx(2.5)
