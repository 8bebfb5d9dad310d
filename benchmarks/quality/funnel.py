"""A funnel of lost targets: each target that is not answered counts at the first step that dropped it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ranking import places_in
from retrieval.topk import CSR, Hits, Mask

STEPS = ("unknown", "filtered", "retrieval", "approximate index", "reranked down", "capped")


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """The targets and the ranked lists of some requests.

    targets: item rows of each request; rows from `n_items` on are items that the index does not hold. removed: items
    that may not be answered to each request. exact: the candidates of exact search; retrieved: those of the index in
    use, best first; answered: the final order, whose first k items are answered.
    """

    targets: CSR
    n_items: int
    removed: CSR
    exact: Hits
    retrieved: Hits
    answered: Hits
    k: int = 10

    def counts(self) -> dict[str, int]:
        """The number of targets, of those answered, and of those lost at each of STEPS.

        unknown: not in the index. filtered: removed. retrieval: no candidate of exact search either. approximate index:
        a candidate of exact search, but not of the index in use. reranked down: among the first k before reranking
        only. capped: a candidate that was never among the first k.
        """
        found = dict.fromkeys(("targets", "answered", *STEPS), 0)
        found["targets"] = len(self.targets.rows)
        left = np.ones(len(self.targets.rows), bool)
        for step, lost in self._lost().items():
            found[step] = int(np.count_nonzero(left & lost))
            left &= ~lost
        return found

    def _lost(self) -> dict[str, Mask]:
        """Which targets each step may have lost, bool [n_targets]; the first step that applies counts."""
        before, answered = self._listed(self.retrieved.head(self.k)), self._listed(self.answered.head(self.k))
        candidate = self._listed(self.retrieved)
        return {
            "answered": answered,
            "unknown": self.targets.rows >= self.n_items,
            "filtered": self.targets.listed_in(self.removed),
            "approximate index": self._listed(self.exact) & ~candidate,
            "retrieval": ~candidate,
            "reranked down": before,
            "capped": np.ones(len(self.targets.rows), bool),
        }

    def _listed(self, hits: Hits) -> Mask:
        return places_in(hits, self.targets).tied > 0
