"""Training batches of texts of similar length, because padding costs as much as text and teaches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

POOL = 64  # batches whose rows are sorted together; more would group lengths better and shuffle less


class LengthGroupedBatches(DefaultBatchSampler):
    """Shuffles the rows, sorts pools of 64 batches by length, and shuffles the batches; anew in each epoch."""

    def __init__(
        self,
        dataset: object,
        *,
        lengths: NDArray[np.int64],
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._lengths = lengths

    @classmethod
    def by(cls, lengths: NDArray[np.int64]) -> partial[LengthGroupedBatches]:
        """A sampler factory as the trainer's `batch_sampler` argument wants it: the trainer adds its own arguments."""
        return partial(cls, lengths=lengths)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        shuffled = random.permutation(len(self._lengths))
        pool = POOL * self.batch_size
        pools = [shuffled[start : start + pool] for start in range(0, len(shuffled), pool)]
        order = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in pools])
        starts = np.arange(len(self)) * self.batch_size
        for start in random.permutation(starts):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        whole, rest = divmod(len(self._lengths), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)
