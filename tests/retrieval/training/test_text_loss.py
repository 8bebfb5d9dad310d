"""Who is whose negative in the loss of the text encoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.losses import in_batch_softmax, log_expected_count
from retrieval.training.text_loss import KnownPositives, TextLoss
from retrieval.training.text_pairs import TextPairs

CONFIG = TextConfig(batch=2, temperature=0.5)
KNOWN = CSR.from_lists([[0, 4], [1], [2]])
VECTORS = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
ASKED = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), dim=1)


class Table(nn.Module):
    """Stands for a model: the features are the vectors."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["input_ids"]}


def loss_of(**changes: object) -> TextLoss:
    pairs = TextPairs(("a", "b", "c", "a"), np.array([0, 1, 2, 0]), np.array([0, 1, 2, 0]), KNOWN)
    return TextLoss(Table(), pairs, 6, CONFIG.model_copy(update=changes))  # type: ignore[arg-type]


def call(loss: TextLoss, owner: list[int], item: list[int], *, mined: list[list[int]] | None = None, **more: Tensor
) -> Tensor:  # fmt: skip
    own = torch.tensor(mined or [[] for _ in owner], dtype=torch.long).reshape(len(owner), -1)
    negative = own[own >= 0].unique()
    places = torch.where(own >= 0, torch.searchsorted(negative, own), -1)
    labels = {"owner": torch.tensor(owner), "item": torch.tensor(item), "negative": negative, "mined": places}
    labels |= {"grade": torch.ones(len(owner))} | more
    features = [ASKED[owner], VECTORS[item], *([VECTORS[negative]] if len(negative) else [])]
    return loss([{"input_ids": part} for part in features], labels)


def softmax(owner: list[int], candidates: list[list[int]], *, log_q: Tensor | None = None) -> float:
    """The mean over askers of the softmax loss of the first of each one's candidates."""
    losses = []
    for who, rows in zip(owner, candidates, strict=True):
        logits = VECTORS[rows] @ ASKED[who] / CONFIG.temperature - (0 if log_q is None else log_q[rows])
        losses.append(float(torch.logsumexp(logits, 0) - logits[0]))
    return sum(losses) / len(losses)


def test_what_is_known_to_be_good_is_told_for_a_whole_batch() -> None:
    known = KnownPositives(CSR.from_lists([[3, 1], [], [0]]), 5)
    owner, item = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 3, 3])
    assert known(owner, item).tolist() == [[True, False, True, True], [False] * 4, [False, True, False, False]]
    assert not KnownPositives(CSR.from_lists([[], []]), 5)(owner[:2], item).any()


def test_other_items_of_the_batch_are_negatives_but_for_what_is_known_to_be_good() -> None:
    assert float(call(loss_of(), [0, 1], [0, 1])) == pytest.approx(softmax([0, 1], [[0, 1], [1, 0]]), rel=1e-5)
    assert float(call(loss_of(), [0, 1], [0, 4])) == pytest.approx(softmax([0, 1], [[0], [4, 0]]), rel=1e-5)


def test_every_pair_stands_against_all_mined_negatives_but_its_own_positives_and_repeats() -> None:
    found = call(loss_of(hard_negatives=2), [0, 1], [0, 1], mined=[[1, 3], [4, -1]])
    assert float(found) == pytest.approx(softmax([0, 1], [[0, 1, 3], [1, 0, 3, 4]]), rel=1e-5)


def test_the_correction_is_that_of_distinct_draws_by_frequency() -> None:
    frequency = torch.tensor([0.5, 0.25, 0.25, 0, 0, 0])
    found = call(loss_of(log_q=True), [0, 1, 0], [0, 1, 0])
    log_q = log_expected_count((frequency, 3))
    assert float(found) == pytest.approx(softmax([0, 1, 0], [[0, 1], [1, 0], [0, 1]], log_q=log_q), rel=1e-5)
    mined = call(loss_of(log_q=True, hard_negatives=1), [0, 1], [0, 1], mined=[[3], [5]])
    log_q = log_expected_count((frequency, 2), (torch.full((6,), 1 / 6), 2))
    assert float(mined) == pytest.approx(softmax([0, 1], [[0, 1, 3, 5], [1, 0, 3, 5]], log_q=log_q), rel=1e-5)


def test_binary_cross_entropy_leaves_the_same_candidates_out() -> None:
    found = call(loss_of(loss="bce", hard_negatives=1), [0, 1], [0, 1], mined=[[4], [3]])
    by_hand = []
    for who, own, negatives in ((0, 0, [1, 3]), (1, 1, [0, 3, 4])):
        logits = (VECTORS @ ASKED[who] / CONFIG.temperature).tolist()
        against = sum(math.log(1 + math.exp(logits[row])) for row in negatives) / len(negatives)
        by_hand.append(math.log(1 + math.exp(-logits[own])) + against)
    assert float(found) == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_a_target_that_is_not_known_to_be_good_is_no_negative_of_its_own_pair() -> None:
    found = call(loss_of(loss="bce"), [1, 0], [5, 0])
    logits = ASKED @ VECTORS.T / CONFIG.temperature
    each = [(logits[1, 5], logits[1, 0]), (logits[0, 0], logits[0, 5])]
    by_hand = [math.log(1 + math.exp(-float(own))) + math.log(1 + math.exp(float(other))) for own, other in each]
    assert float(found) == pytest.approx(sum(by_hand) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_a_pair_of_higher_grade_pulls_harder_and_equal_grades_weigh_nothing(loss: str) -> None:
    def pull(grades: list[float]) -> list[float]:
        """How strongly each pair pulls its item towards its query."""
        vectors = VECTORS[[0, 1]].clone().requires_grad_()
        labels = {"owner": torch.tensor([0, 1]), "item": torch.tensor([0, 1]), "grade": torch.tensor(grades)}
        labels |= {"negative": torch.empty(0, dtype=torch.long), "mined": torch.empty(2, 0, dtype=torch.long)}
        loss_of(loss=loss)([{"input_ids": ASKED[:2]}, {"input_ids": vectors}], labels).backward()
        return (-vectors.grad * ASKED[:2]).sum(dim=1).tolist()  # type: ignore[operator]

    equal, graded = pull([1.0, 1.0]), pull([1.0, 0.5])
    assert graded[0] > equal[0]
    assert graded[1] < equal[1]
    unweighted = float(call(loss_of(loss=loss), [0, 1], [0, 1]))
    same = call(loss_of(loss=loss), [0, 1], [0, 1], grade=torch.tensor([0.7, 0.7]))
    assert float(same) == pytest.approx(unweighted, rel=1e-6)


def test_two_positives_of_a_query_do_not_repel_each_other_whatever_their_grades() -> None:
    found = call(loss_of(), [0, 0, 1], [0, 4, 1], grade=torch.tensor([1.0, 0.5, 0.5]))
    by_hand = [softmax([who], [rows]) for who, rows in ((0, [0, 1]), (0, [4, 1]), (1, [1, 0, 4]))]
    assert float(found) == pytest.approx((by_hand[0] + 0.5 * by_hand[1] + 0.5 * by_hand[2]) / 2, rel=1e-5)


def test_squared_error_is_of_cosines_against_grades() -> None:
    grades = torch.tensor([1.0, 0.25])
    found = call(loss_of(loss="mse"), [0, 1], [0, 3], grade=grades)
    cosines = (ASKED[:2] * VECTORS[[0, 3]]).sum(dim=1)
    assert float(found) == pytest.approx(float(((cosines - grades) ** 2).mean()), rel=1e-5)


def test_a_teachers_margins_are_over_each_pairs_own_negatives() -> None:
    config = {"hard_negatives": 2, "distil": 0.5}
    teacher = torch.tensor([[5.0, 1.0, 2.0], [3.0, -1.0, -torch.inf]])
    mined = [[3, 5], [5, -1]]
    found = call(loss_of(**config), [0, 1], [0, 1], mined=mined, teacher=teacher)
    logits = ASKED @ VECTORS.T / CONFIG.temperature
    margins = [logits[0, 0] - logits[0, 3] - 4, logits[0, 0] - logits[0, 5] - 3, logits[1, 1] - logits[1, 5] - 4]
    ranking = softmax([0, 1], [[0, 1, 3, 5], [1, 0, 3, 5]])
    assert float(found) == pytest.approx(ranking + 0.5 * sum(float(one) ** 2 for one in margins) / 3, rel=1e-5)
    without = call(loss_of(**config), [0, 1], [0, 1], mined=[[-1, -1], [-1, -1]], teacher=teacher)
    assert float(without) == pytest.approx(softmax([0, 1], [[0, 1], [1, 0]]), rel=1e-5)


def test_shorter_vectors_are_trained_beside_the_whole_one() -> None:
    found = call(loss_of(matryoshka=(2,)), [0, 1], [0, 1])
    short = [torch.nn.functional.normalize(part[:2, :2], dim=1) for part in (ASKED, VECTORS)]
    known = torch.zeros(2, 2, dtype=torch.bool)
    expected = (softmax([0, 1], [[0, 1], [1, 0]]) + float(in_batch_softmax(*short, known, temperature=0.5))) / 2
    assert float(found) == pytest.approx(expected, rel=1e-5)
