"""What features are computed from: shortlists, and what their shoppers did, as of the moment of each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Rows, Scores, Vectors

EVENTS = 500  # newest events of a shopper that are read


class ShopperEvents(NamedTuple):
    """The newest events on items of n shoppers, oldest first, at most EVENTS of each.

    List i of `items` holds the item rows; `kinds` int64 are codes of the shop's kinds of events, -1 unknown, `times`
    int64 microseconds since 1970, UTC, both [len(items.rows)].
    """

    items: CSR
    kinds: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def none(cls, n: int) -> ShopperEvents:
        """n shoppers of whom nothing is known."""
        nothing = np.empty(0, np.int64)
        return cls(CSR.empty(n), nothing, nothing)

    def select(self, part: NDArray[np.int64]) -> ShopperEvents:
        """Those of some shoppers, by position."""
        at = CSR(self.items.indptr, np.arange(len(self.items.rows))).select(part)
        return ShopperEvents(CSR(at.indptr, self.items.rows[at.rows]), self.kinds[at.rows], self.times[at.rows])

    @classmethod
    def join(cls, parts: Sequence[ShopperEvents]) -> ShopperEvents:
        """Those of several parts, one after the other."""
        return cls(
            CSR.join([part.items for part in parts]),
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([part.times for part in parts]),
        )

    def then(self, items: CSR, kind: int, now: NDArray[np.int64]) -> ShopperEvents:
        """The same followed by events of one kind on `items`, a list for each shopper, at `now` int64 [n]."""
        owners = np.concatenate([self.items.owners, items.owners])
        order = np.argsort(owners, kind="stable")
        kinds = np.concatenate([self.kinds, np.full(len(items.rows), kind)])
        times = np.concatenate([self.times, now[items.owners]])
        return ShopperEvents(CSR.concatenate([self.items, items]), kinds[order], times[order])


@dataclass(frozen=True, kw_only=True)
class Shortlists:
    """The candidates of n requests, and what is known of each request.

    rows: int64 [n, k] item rows, -1 for a pad. scores: by source, float32 [n, k]. fused: float32 [n, k], the score that
    the shortlists are ordered by. events, now (int64 [n], microseconds since 1970, UTC): see ShopperEvents. carts: item
    rows that came with the request to be completed. vectors: float32 [n, index_dim] of the user tower. typed,
    corrected: queries, empty where nothing is searched for.
    """

    rows: Rows
    fused: Scores
    scores: Mapping[str, Scores] = field(default_factory=dict)
    events: ShopperEvents
    now: NDArray[np.int64]
    carts: CSR
    vectors: Vectors
    typed: Sequence[str] = ()
    corrected: Sequence[str] = ()

    @classmethod
    def of_nobody(cls, dim: int) -> Self:
        """The first item, for one of whom nothing is known, with a user vector of `dim` zeros."""
        return cls(
            rows=np.zeros((1, 1), np.int64),
            fused=np.zeros((1, 1), np.float32),
            events=ShopperEvents.none(1),
            now=np.zeros(1, np.int64),
            carts=CSR.empty(1),
            vectors=np.zeros((1, dim), np.float32),
            typed=("",),
            corrected=("",),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: NDArray[np.int64]) -> Self:
        """The same requests with the candidates at `places`, int64 [k], of each list alone."""
        scores = {name: scores[:, places] for name, scores in self.scores.items()}
        return replace(self, rows=self.rows[:, places], fused=self.fused[:, places], scores=scores)

    def select(self, part: NDArray[np.int64]) -> Self:
        """Those of some requests, by position."""
        return replace(
            self,
            rows=self.rows[part],
            fused=self.fused[part],
            scores={name: scores[part] for name, scores in self.scores.items()},
            events=self.events.select(part),
            now=self.now[part],
            carts=self.carts.select(part),
            vectors=self.vectors[part],
            typed=[self.typed[at] for at in part.tolist()] if self.typed else (),
            corrected=[self.corrected[at] for at in part.tolist()] if self.corrected else (),
        )
