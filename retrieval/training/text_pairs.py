"""Training pairs of the text encoder: a query text and an item that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.fingerprint import array_sha256, fingerprint
from retrieval.topk import CSR


@dataclass(frozen=True)
class TextPairs:
    """n pairs of a text (a search query, or a shopper's recent titles) and the item that it should find.

    `owner` groups the pairs of one query or one shopper. `known` lists, for each owner, all item rows known to be
    relevant to it: those never count as its negatives. `grade` is the relevance of each pair, 0 to 1, by
    which it weighs in the loss; None means 1.
    """

    text: tuple[str, ...]  # [n]
    owner: NDArray[np.int64]  # [n] list of `known`
    item: NDArray[np.int64]  # [n] item row
    known: CSR
    grade: NDArray[np.float32] | None = None  # [n]

    def __len__(self) -> int:
        return len(self.item)

    @property
    def grades(self) -> NDArray[np.float32]:
        """The relevance of each pair, float32 [n]; 1 where no grades are known."""
        return np.ones(len(self), np.float32) if self.grade is None else self.grade

    def digest(self) -> str:
        """A fingerprint of the pairs' contents."""
        arrays = (self.owner, self.item, self.known.indptr, self.known.rows, self.grades)
        return fingerprint(list(self.text), [array_sha256(array) for array in arrays])

    def take(self, index: NDArray[np.int64]) -> TextPairs:
        """The pairs at the positions `index`, int64 [m]; `known` stays complete."""
        text = tuple(self.text[i] for i in index)
        return TextPairs(text, self.owner[index], self.item[index], self.known, self.grades[index])

    def grouped_by_text(self) -> TextPairs:
        """The same pairs with one owner for each distinct text, which knows what any owner of that text did.

        Each owner must have one text, as queries do. A query that is both judged and in events, or judged under two
        ids, would repel its own positives otherwise.
        """
        owners, first = np.unique(self.owner, return_index=True)
        texts, group = np.unique([self.text[at] for at in first], return_inverse=True)
        known = self.known.select(owners)
        return replace(
            self,
            owner=group[np.searchsorted(owners, self.owner)],
            known=CSR.grouped(group[known.owners], known.rows, len(texts)),
        )

    @classmethod
    def join(cls, parts: Sequence[TextPairs]) -> TextPairs:
        """Pairs from several sources, one after another; owners of different sources stay distinct."""
        starts = np.cumsum([0, *(part.known.n_lists for part in parts)])
        return cls(
            tuple(text for part in parts for text in part.text),
            np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=False)]),
            np.concatenate([part.item for part in parts]),
            CSR.join([part.known for part in parts]),
            np.concatenate([part.grades for part in parts]),
        )
