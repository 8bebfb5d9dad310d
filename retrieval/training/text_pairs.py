"""Training pairs of the text part: a text that asks, and an item that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.fingerprint import array_sha256, fingerprint
from retrieval.topk import CSR


@dataclass(frozen=True)
class TextPairs:
    """What asks (a query, or a shopper's recent titles), and an item that answers; `owner` names who asked.

    `known` holds, for each owner, every item row that is good for it: those never count as negatives. `grade` says from
    0 to 1 how good the answer is; none: all are as good as can be.
    """

    text: tuple[str, ...]
    owner: NDArray[np.int64]  # [n]
    item: NDArray[np.int64]  # [n]
    known: CSR
    grade: NDArray[np.float32] | None = None  # [n]

    def __len__(self) -> int:
        return len(self.item)

    @property
    def grades(self) -> NDArray[np.float32]:
        """How good each answer is, float32 [n]."""
        return np.ones(len(self), np.float32) if self.grade is None else self.grade

    def digest(self) -> str:
        """A fingerprint of what the pairs say."""
        arrays = (self.owner, self.item, self.known.indptr, self.known.rows, self.grades)
        return fingerprint(list(self.text), [array_sha256(array) for array in arrays])

    def take(self, index: NDArray[np.int64]) -> TextPairs:
        """Some of the pairs; what is known stays whole."""
        text = tuple(self.text[i] for i in index)
        return TextPairs(text, self.owner[index], self.item[index], self.known, self.grades[index])

    @classmethod
    def join(cls, parts: Sequence[TextPairs]) -> TextPairs:
        """Pairs of several kinds; owners of different kinds stay apart."""
        starts = np.cumsum([0, *(part.known.n_lists for part in parts)])
        sizes = np.concatenate([np.diff(part.known.indptr) for part in parts])
        known = CSR(np.concatenate(([0], np.cumsum(sizes))), np.concatenate([part.known.rows for part in parts]))
        return cls(
            tuple(text for part in parts for text in part.text),
            np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=False)]),
            np.concatenate([part.item for part in parts]),
            known,
            np.concatenate([part.grades for part in parts]),
        )
