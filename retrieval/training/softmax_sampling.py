"""The candidates of a history training step: the whole catalogue, or a sample with its logQ correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.topk import Rows, Vectors, exact_topk
from retrieval.training.losses import log_expected_count

NEIGHBOUR_BLOCK = 4_096  # items whose neighbours are searched at once


class SampledItems(NamedTuple):
    """The items that a step scores."""

    rows: Tensor  # int64 [n], ascending
    log_q: Tensor | None  # float [n], see `log_expected_count`; None where the whole catalogue is scored


class Neighbours(NamedTuple):
    """The nearest items of each item by the towers' own vectors."""

    rows: Rows  # int64 [n_items, width] item rows, -1 padded
    probability: Tensor  # float [n_items], sums to 1: of an item being drawn as the neighbour of a target


@dataclass
class CandidateSampler:
    """Draws the candidates of each step: its targets, `uniform` random items, and `hard` neighbours per target.

    `frequency` float [n_items] is the share of each item among the targets, `answered` that among the answers of
    queries. Catalogues of up to `full_softmax_items` are scored as a whole. Without `log_q` a sample is not corrected.
    """

    frequency: Tensor
    answered: Tensor
    full_softmax_items: int
    uniform: int
    hard: int
    log_q: bool = True
    neighbours: Neighbours | None = None

    @property
    def scores_everything(self) -> bool:
        """Whether every step scores the whole catalogue."""
        return len(self.frequency) <= self.full_softmax_items

    def draw(self, targets: NDArray[np.int64], answers: NDArray[np.int64], rng: np.random.Generator) -> SampledItems:
        """The candidates for `targets` of histories and `answers` of queries, int64 item rows each."""
        n, device = len(self.frequency), self.frequency.device
        if self.scores_everything:
            return SampledItems(torch.arange(n, device=device), None)
        uniform = rng.integers(0, n, self.uniform)
        pools = [
            (self.frequency, len(targets)),
            (self.answered, len(answers)),
            (torch.full_like(self.frequency, 1 / n), len(uniform)),
        ]
        drawn = [targets, answers, uniform]
        if self.neighbours is not None and self.hard and self.neighbours.rows.shape[1]:
            near, width = self.neighbours.rows, self.neighbours.rows.shape[1]
            picked = near[np.repeat(targets, self.hard), rng.integers(0, width, len(targets) * self.hard)]
            drawn.append(picked[picked >= 0])
            pools.append((self.neighbours.probability, len(targets) * self.hard))
        rows = torch.from_numpy(np.unique(np.concatenate(drawn))).to(device)
        return SampledItems(
            rows, log_expected_count(*pools)[rows] if self.log_q else torch.zeros(len(rows), device=device)
        )

    def find_neighbours(self, items: Vectors, window: tuple[int, int]) -> None:
        """Sets `neighbours`: for every item, those at the ranks `window` by inner product of `items` [n_items, dim]."""
        first, last = window
        found = []
        for start in range(0, len(items), NEIGHBOUR_BLOCK):
            rows = exact_topk(items[start : start + NEIGHBOUR_BLOCK], items, min(last + 1, len(items))).rows
            own = np.arange(start, start + len(rows))[:, None]
            order = np.argsort(rows == own, axis=1, kind="stable")  # the item itself goes to the end
            found.append(np.take_along_axis(rows, order, axis=1)[:, first : rows.shape[1] - 1])
        near = np.concatenate(found)
        share = (self.frequency.cpu().numpy() / max(1, near.shape[1]))[:, None].repeat(near.shape[1], axis=1)
        known = near >= 0
        probability = np.bincount(near[known], share[known], len(items)).astype(np.float32)
        self.neighbours = Neighbours(near, torch.from_numpy(probability).to(self.frequency.device))


def shares(items: NDArray[np.int64], n: int) -> Tensor:
    """The share of each of n item rows among `items`, float32 [n]."""
    counts = np.bincount(items, minlength=n).astype(np.float32)
    return torch.from_numpy(counts / max(1.0, counts.sum()))
