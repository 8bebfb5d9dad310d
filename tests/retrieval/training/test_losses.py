"""Losses of the towers against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.training.losses import (
    catalogue_bce,
    catalogue_softmax,
    graded_mse,
    in_batch_softmax,
    log_expected_count,
    margin_distillation,
    matryoshka,
)


def pairs(*positives: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, columns) of what is liked."""
    columns = torch.tensor(positives, dtype=torch.long).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def test_catalogue_softmax_equals_numbers_worked_out_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 1.0, 1.0, 1.0]]))
    loss = catalogue_softmax(logits, torch.tensor([0, 1]), torch.tensor([1, 0]), pairs((0, 1), (1, 0)))
    assert float(loss) == pytest.approx((-math.log(2 / 10) - math.log(5 / 8)) / 2)


def test_each_target_of_a_basket_stands_against_the_negatives_alone() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    liked = pairs((0, 1), (0, 3))
    loss = catalogue_softmax(logits, torch.tensor([0, 0]), torch.tensor([1, 3]), liked)
    assert float(loss) == pytest.approx((-math.log(2 / (2 + 1 + 3)) - math.log(4 / (4 + 1 + 3))) / 2)


def test_without_other_positives_catalogue_softmax_is_cross_entropy() -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([3, 0, 8, 3, 1])
    own = catalogue_softmax(logits, torch.arange(5), target, (torch.arange(5), target))
    torch.testing.assert_close(own, torch.nn.functional.cross_entropy(logits, target))


def test_accidental_hits_never_count_in_catalogue_softmax() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]], requires_grad=True)
    liked = pairs((0, 0), (0, 2))  # row 2 is liked as well, whatever its logit
    loss = catalogue_softmax(logits, torch.tensor([0]), torch.tensor([0]), liked)
    loss.backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 2]) == 0
    assert (logits.grad[0, [1, 3]] > 0).all()
    raised = logits.detach().clone()
    raised[0, 2] = 50
    torch.testing.assert_close(catalogue_softmax(raised, torch.tensor([0]), torch.tensor([0]), liked), loss.detach())


def test_a_user_who_likes_every_candidate_teaches_nothing_and_breaks_nothing() -> None:
    logits = torch.tensor([[0.3, -1.0], [1.0, 0.0]], requires_grad=True)
    liked = pairs((0, 0), (0, 1), (1, 0))
    loss = catalogue_softmax(logits, torch.tensor([0, 1]), torch.tensor([0, 0]), liked)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].tolist() == [0, 0]
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-1)) / 2)


def test_weights_of_pairs_make_a_weighted_mean() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 1.0, 1.0, 1.0]]))
    answers = (torch.tensor([0, 1]), torch.tensor([1, 0]), pairs((0, 1), (1, 0)))
    loss = catalogue_softmax(logits, *answers, torch.tensor([3.0, 1.0]))
    assert float(loss) == pytest.approx((-3 * math.log(2 / 10) - math.log(5 / 8)) / 4)


def test_catalogue_bce_of_one_who_likes_everything_is_that_of_the_target() -> None:
    loss = catalogue_bce(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([1]), pairs((0, 0), (0, 1)))
    assert float(loss) == pytest.approx(math.log(2))


def test_in_batch_softmax_equals_numbers_worked_out_by_hand() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    items = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    loss = in_batch_softmax(queries, items, torch.eye(2, dtype=torch.bool), temperature=0.5)
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1.2)))
    second = -math.log(math.exp(1.6) / (1 + math.exp(1.6)))
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-5)


def test_accidental_hits_never_count_in_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)
    items[2] = items[0]  # the same item answers queries 0 and 2
    positive = torch.eye(3, dtype=torch.bool)
    positive[0, 2] = positive[2, 0] = True
    loss = in_batch_softmax(queries, items, positive, temperature=1.0)
    logits = queries @ items.T
    by_hand = [
        logits[0, 0] - torch.logsumexp(logits[0, [0, 1]], 0),
        logits[1, 1] - torch.logsumexp(logits[1], 0),
        logits[2, 2] - torch.logsumexp(logits[2, [1, 2]], 0),
    ]
    torch.testing.assert_close(loss, -torch.stack(by_hand).mean())


def test_further_candidates_are_negatives_unless_they_are_known_to_be_good() -> None:
    logits = torch.log(torch.tensor([[2.0, 1.0, 3.0, 4.0], [1.0, 5.0, 2.0, 7.0]]))
    known = torch.zeros(2, 4, dtype=torch.bool)
    known[0, 3] = True
    loss = in_batch_softmax(logits, torch.eye(4), known, temperature=1.0)
    assert float(loss) == pytest.approx((-math.log(2 / 6) - math.log(5 / 15)) / 2)


def test_pairs_of_a_batch_weigh_as_they_are_told() -> None:
    logits = torch.log(torch.tensor([[2.0, 1.0], [1.0, 5.0]]))
    weight, masked = torch.tensor([1.0, 0.5]), torch.zeros(2, 2, dtype=torch.bool)
    loss = in_batch_softmax(logits, torch.eye(2), masked, temperature=1.0, weight=weight)
    assert float(loss) == pytest.approx((-math.log(2 / 3) - 0.5 * math.log(5 / 6)) / 1.5)


def test_log_q_is_taken_from_every_candidate_the_target_included() -> None:
    logits = torch.log(torch.tensor([[2.0, 1.0, 3.0], [1.0, 5.0, 2.0]]))
    log_q = torch.log(torch.tensor([0.5, 0.25, 1.0]))
    loss = in_batch_softmax(logits, torch.eye(3), torch.zeros(2, 3, dtype=torch.bool), temperature=1.0, log_q=log_q)
    assert float(loss) == pytest.approx((-math.log(4 / (4 + 4 + 3)) - math.log(20 / (2 + 20 + 2))) / 2)
    elsewhere = in_batch_softmax(
        logits, torch.eye(3), torch.zeros(2, 3, dtype=torch.bool), temperature=1.0, log_q=log_q + 7
    )
    torch.testing.assert_close(elsewhere, loss)


@pytest.mark.parametrize("corrected", [True, False])
def test_corrected_logits_are_log_p_and_others_are_less_of_log_q(corrected: bool) -> None:
    """Two users of opposed tastes over one skewed popularity, a free logit each; batches as in training."""
    rng, n_users, n_items, batch = np.random.default_rng(0), 2, 12, 6
    popularity = 1 / np.arange(1, n_items + 1) ** 1.3
    taste = rng.normal(0, 0.8, n_items) * np.array([[1.0], [-1.0]])
    p = popularity * np.exp(taste)
    p /= p.sum(axis=1, keepdims=True)
    log_q = log_expected_count((torch.from_numpy(p.mean(axis=0)).float(), batch))
    free = torch.zeros(n_users, n_items, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, total_iters=900)
    for _ in range(900):
        user = rng.integers(n_users, size=batch)
        item = torch.from_numpy((rng.random((batch, 1)) > p[user].cumsum(axis=1)).sum(axis=1).clip(max=n_items - 1))
        same = item[:, None] == item[None, :]
        masked = same | same.tril(-1).any(dim=1)
        queries, items = free[torch.from_numpy(user)], torch.eye(n_items)[item]
        q = log_q[item] if corrected else None
        loss = in_batch_softmax(queries, items, masked, temperature=1.0, log_q=q)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()

    def agreement(expected: np.ndarray) -> float:
        found = free.detach().numpy()
        sides = (part - part.mean(axis=1, keepdims=True) for part in (found, expected))
        return float(np.corrcoef(*(side.ravel() for side in sides))[0, 1])

    told, less = np.log(p), np.log(p) - log_q.numpy()
    assert agreement(told if corrected else less) > 0.95
    assert agreement(less if corrected else told) < 0.9


def test_catalogue_bce_equals_numbers_worked_out_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 1.0, 1.0, 1.0]]))  # sigmoid(log x) = x / (1 + x)
    loss = catalogue_bce(logits, torch.tensor([0, 1]), torch.tensor([1, 0]), pairs((0, 1), (0, 3), (1, 0)))
    first = -math.log(2 / 3) + (math.log(1 + 1) + math.log(1 + 3)) / 2
    second = -math.log(5 / 6) + math.log(1 + 1)
    assert float(loss) == pytest.approx((first + second) / 2)


def test_what_is_liked_and_no_target_is_on_neither_side_of_catalogue_bce() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0], [0.1, 0.2, 0.3]], requires_grad=True)
    everything = pairs((0, 0), (0, 2), (1, 0), (1, 1), (1, 2))
    loss = catalogue_bce(logits, torch.tensor([0, 1]), torch.tensor([0, 1]), everything)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 2] == logits.grad[1, 0] == logits.grad[1, 2] == 0
    assert (logits.grad[0, 0] < 0) & (logits.grad[0, 1] > 0) & (logits.grad[1, 1] < 0)
    assert torch.isfinite(logits.grad).all()


def test_graded_mse_equals_numbers_worked_out_by_hand() -> None:
    loss = graded_mse(torch.tensor([0.5, 1.0, -0.2]), torch.tensor([1.0, 1.0, 0.0]))
    assert float(loss) == pytest.approx((0.25 + 0 + 0.04) / 3)


def test_margin_distillation_equals_numbers_worked_out_by_hand() -> None:
    student, teacher = (torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])), torch.tensor([9.0, 4.0])
    loss = margin_distillation(*student, teacher, torch.tensor([4.0, 5.0]))
    assert float(loss) == pytest.approx(((2 - 5) ** 2 + (-1 + 1) ** 2) / 2)


def test_matryoshka_is_the_mean_over_cut_vectors_of_unit_length() -> None:
    left, right = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([[4.0, 3.0, 5.0]])

    def cosine(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return (left * right).sum()

    by_hand = [1.0, 24 / 25, 24 / (5 * math.sqrt(50))]
    assert float(matryoshka(cosine, (1, 2, 3), left, right)) == pytest.approx(sum(by_hand) / 3)
    assert float(matryoshka(cosine, (3,), left, right)) == pytest.approx(by_hand[2])


def test_the_expected_count_of_distinct_candidates_equals_the_count_of_all_draws() -> None:
    frequency = [0.5, 0.3, 0.2, 0.0]
    held = np.zeros(4)
    for *targets, even in product(range(4), repeat=3):  # two targets and one even draw
        chance = math.prod(frequency[row] for row in targets) / 4
        held[list({*targets, even})] += chance
    found = log_expected_count((torch.tensor(frequency), 2), (torch.full((4,), 0.25), 1)).exp()
    np.testing.assert_allclose(found.numpy(), held, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.integers(0, 1000), min_size=1, max_size=8), batch=st.integers(1, 5000))
def test_the_expected_count_is_at_most_one_and_grows_with_frequency(weights: list[int], batch: int) -> None:
    counts = torch.tensor(weights, dtype=torch.float32)
    found = log_expected_count(
        (counts / max(1.0, float(counts.sum())), batch), (torch.full_like(counts, 1 / len(counts)), 3)
    )
    assert torch.isfinite(found).all()
    assert (found <= 0).all()
    assert (found[counts.argsort()].diff() >= 0).all()


def test_a_corrected_softmax_over_samples_prefers_what_the_softmax_over_the_catalogue_prefers() -> None:
    frequency = torch.tensor([0.6, 0.3, 0.06, 0.04])
    rng = np.random.default_rng(0)
    log_q = log_expected_count((frequency, 8), (torch.full((4,), 0.25), 2))
    logits = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.03)
    for _ in range(300):
        drawn = rng.choice(4, 8, p=frequency.double().numpy() / float(frequency.double().sum()))
        rows = torch.from_numpy(np.unique(np.concatenate([drawn, rng.integers(0, 4, 2)])))
        scores = (logits[rows] - log_q[rows]).expand(len(drawn), -1)
        target = torch.searchsorted(rows, torch.from_numpy(drawn))
        loss = torch.nn.functional.cross_entropy(scores, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    learned = torch.softmax(logits.detach(), 0)
    torch.testing.assert_close(learned, frequency, atol=0.06, rtol=0)
