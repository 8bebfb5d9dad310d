"""A cache of query vectors, because the same queries come again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from retrieval.topk import Vectors
from retrieval.towers.serving import UserTower

CACHED = 50_000  # queries whose vectors are cached


@dataclass(frozen=True)
class QueryVectors:
    """Embeds queries with a user tower and caches their vectors; a full cache is emptied.

    `embed` stands in for the tower's `queries`, such as one whose batches several callers share.
    """

    user_tower: UserTower
    embed: Callable[[Sequence[str]], Vectors] | None = None
    _cache: dict[str, Vectors] = field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> Vectors:
        """The vectors of query texts, float32 [n, index_dim]."""
        found = {text: self._cache.get(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            found.update(zip(new, (self.embed or self.user_tower.queries)(new), strict=True))
            if len(self._cache) + len(new) > CACHED:
                self._cache.clear()
            self._cache.update({text: vector for text in new if (vector := found[text]) is not None})
        return np.stack([vector for text in texts if (vector := found[text]) is not None])

    def holds(self, texts: Sequence[str]) -> bool:
        """Whether all texts but empty ones are cached."""
        return all(text in self._cache for text in texts if text)

    def forget(self) -> None:
        """Empties the cache."""
        self._cache.clear()
