"""Where targets were lost: every one that is not among the answered items counts at the first step that dropped it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ranking import places_in
from retrieval.topk import CSR, Hits, Mask

STEPS = ("unknown", "filtered", "retrieval", "approximate index", "reranked down", "capped")


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """The lists of some requests at every step, and what each request was for.

    targets: all of them, item rows; those at `n_items` or above are items that the index does not hold. removed: what
    may not be answered to each request. exact: the candidates that an exact index gives; given: those of the index in
    use, best first; answered: the order shown, of which the first k are answered.
    """

    targets: CSR
    n_items: int
    removed: CSR
    exact: Hits
    given: Hits
    answered: Hits
    k: int = 10

    def counts(self) -> dict[str, int]:
        """How many targets there are, how many were answered, and how many were lost at each of STEPS.

        unknown: not in the index. filtered: removed. retrieval: not even exact search has it among the candidates.
        approximate index: exact search has it, the index in use does not. reranked down: among the first k before
        reranking, not after. capped: a candidate that never stood among the first k.
        """
        found = dict.fromkeys(("targets", "answered", *STEPS), 0)
        found["targets"] = len(self.targets.rows)
        left = np.ones(len(self.targets.rows), bool)
        for step, lost in self._lost().items():
            found[step] = int(np.count_nonzero(left & lost))
            left &= ~lost
        return found

    def _lost(self) -> dict[str, Mask]:
        """What falls under each step, bool [n_targets]; the first that holds is the one that counts."""
        before, shown = self._listed(self.given.head(self.k)), self._listed(self.answered.head(self.k))
        candidate = self._listed(self.given)
        return {
            "answered": shown,
            "unknown": self.targets.rows >= self.n_items,
            "filtered": self.targets.listed_in(self.removed),
            "approximate index": self._listed(self.exact) & ~candidate,
            "retrieval": ~candidate,
            "reranked down": before,
            "capped": np.ones(len(self.targets.rows), bool),
        }

    def _listed(self, hits: Hits) -> Mask:
        return places_in(hits, self.targets).tied > 0
