"""What a training step of the history part scores: the whole catalogue, or a sample and what the loss corrects for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.topk import Rows, Vectors, exact_topk
from retrieval.training.losses import log_expected_count

LOOKED_AT = 4_096  # items whose neighbours are looked for at once


class Candidates(NamedTuple):
    """The items that a step scores, and what the loss corrects for."""

    rows: Tensor  # int64 [n], ascending
    log_q: Tensor | None  # float [n]; none where the whole catalogue is scored


class Neighbours(NamedTuple):
    """Items that the towers find most like each other."""

    rows: Rows  # int64 [n_items, width]: item rows like each item, -1 where there are fewer
    drawn: Tensor  # float [n_items], sums to 1: how often each is drawn beside the targets


@dataclass
class CandidateSampler:
    """Draws candidates for steps: their targets and answers, even draws over the catalogue, and neighbours of the
    targets once `neighbours` are known.

    `frequency` float [n_items] is the share of each item among the targets, `answered` among the answers of queries.
    Catalogues up to `full_softmax_items` are scored as a whole. Without `log_q` samples are not corrected.
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

    def draw(self, targets: NDArray[np.int64], answers: NDArray[np.int64], rng: np.random.Generator) -> Candidates:
        """Candidates for targets of histories and answers of queries, int64 item rows each."""
        n, device = len(self.frequency), self.frequency.device
        if self.scores_everything:
            return Candidates(torch.arange(n, device=device), None)
        even = rng.integers(0, n, self.uniform)
        pools = [
            (self.frequency, len(targets)),
            (self.answered, len(answers)),
            (torch.full_like(self.frequency, 1 / n), len(even)),
        ]
        drawn = [targets, answers, even]
        if self.neighbours is not None and self.hard and self.neighbours.rows.shape[1]:
            near, width = self.neighbours.rows, self.neighbours.rows.shape[1]
            beside = near[np.repeat(targets, self.hard), rng.integers(0, width, len(targets) * self.hard)]
            drawn.append(beside[beside >= 0])
            pools.append((self.neighbours.drawn, len(targets) * self.hard))
        rows = torch.from_numpy(np.unique(np.concatenate(drawn))).to(device)
        return Candidates(
            rows, log_expected_count(*pools)[rows] if self.log_q else torch.zeros(len(rows), device=device)
        )

    def look_around(self, items: Vectors, window: tuple[int, int]) -> None:
        """Finds the neighbours of every item by its vector [n_items, dim]: the ranks of `window`, itself left out."""
        first, last = window
        found = []
        for start in range(0, len(items), LOOKED_AT):
            rows = exact_topk(items[start : start + LOOKED_AT], items, min(last + 1, len(items))).rows
            own = np.arange(start, start + len(rows))[:, None]
            order = np.argsort(rows == own, axis=1, kind="stable")  # the item itself goes to the end
            found.append(np.take_along_axis(rows, order, axis=1)[:, first : rows.shape[1] - 1])
        near = np.concatenate(found)
        share = (self.frequency.cpu().numpy() / max(1, near.shape[1]))[:, None].repeat(near.shape[1], axis=1)
        known = near >= 0
        drawn = np.bincount(near[known], share[known], len(items)).astype(np.float32)
        self.neighbours = Neighbours(near, torch.from_numpy(drawn).to(self.frequency.device))


def shares(items: NDArray[np.int64], n: int) -> Tensor:
    """How much of `items` each of the n rows is, float32 [n]."""
    counts = np.bincount(items, minlength=n).astype(np.float32)
    return torch.from_numpy(counts / max(1.0, counts.sum()))
