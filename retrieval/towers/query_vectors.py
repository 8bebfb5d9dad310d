"""The vectors of queries, remembered: queries come again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from retrieval.topk import Vectors
from retrieval.towers.serving import UserTower

REMEMBERED = 50_000  # queries whose vectors are kept in memory


@dataclass(frozen=True)
class QueryVectors:
    """The vectors of queries by a user tower; those asked for lately are remembered, for queries come again."""

    user_tower: UserTower
    _known: dict[str, Vectors] = field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, index_dim]."""
        found = {text: self._known.get(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            found.update(zip(new, self.user_tower.queries(new), strict=True))
            if len(self._known) + len(new) > REMEMBERED:
                self._known.clear()
            self._known.update({text: vector for text in new if (vector := found[text]) is not None})
        return np.stack([vector for text in texts if (vector := found[text]) is not None])

    def forget(self) -> None:
        """Empties the memory."""
        self._known.clear()
