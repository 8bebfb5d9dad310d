"""Batches of pairs for the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranking.models.pair_tokens import PairTokenizer, TokenisedPairs, spans


@dataclass
class PairCollator:
    """Turns rows of the training set into tensors; a row is a unit: one pair, or a whole group of pairs.

    Unit u holds the pairs `indptr[u]:indptr[u + 1]` of `pairs` and `label`. The batch has `input_ids`,
    `attention_mask` and `token_type_ids` (int64 [b, l]), `sizes` (pairs of each unit, int64 [units]) and `label`
    (float32 [b]).
    """

    tokenizer: PairTokenizer
    pairs: TokenisedPairs
    label: NDArray[np.float32]
    indptr: NDArray[np.int64]
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])  # the trainer reads this

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        units = np.array([row["unit"] for row in rows])
        starts, sizes = self.indptr[units], self.indptr[units + 1] - self.indptr[units]
        wanted = spans(starts, sizes)
        batch = self.tokenizer.batch(self.pairs.select(wanted))
        tensors = {name: torch.from_numpy(array) for name, array in batch._asdict().items()}
        return {**tensors, "sizes": torch.from_numpy(sizes), "label": torch.from_numpy(self.label[wanted])}
