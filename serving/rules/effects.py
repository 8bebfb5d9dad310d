"""What the rules did to the order of shortlists, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Rows
from serving.explanation import RuleEffect
from serving.rules.boosts import Floats
from serving.rules.placement import Placed


@dataclass(frozen=True)
class RuleEffects:
    """What the rules did to n shortlists.

    `before`, `after`: item rows int64 [n, k] before the rules and after them, -1 for none. `relevance` float64 [n, k]
    with all shifts, in the order after. `shifts`: by rule, float64 [n, k] in the order before. `places`: one for each
    shortlist. `kinds`: of each rule by its name.
    """

    before: Rows
    after: Rows
    relevance: Floats
    shifts: Mapping[str, Floats]
    places: Sequence[Placed]
    kinds: Mapping[str, str]

    def of(self, line: int, row: int) -> tuple[RuleEffect, ...]:
        """What rules did to the item at a row in one shortlist, boosts first; nothing for one that is not in it."""
        before = _place(self.before[line], row)
        if before is None:
            return ()
        after = _place(self.after[line], row)
        moved = before - (self.after.shape[1] if after is None else after)
        shifts = ((rule, float(values[line, before])) for rule, values in self.shifts.items())
        found = [RuleEffect(rule, self.kinds[rule], shift, moved) for rule, shift in shifts if shift]
        own = self.places[line]
        named = (rules[row] for rules in (own.placed, own.held) if row in rules)
        return (*found, *(RuleEffect(rule, self.kinds[rule], 0.0, moved) for rule in named))


def _place(rows: NDArray[np.int64], row: int) -> int | None:
    found = np.flatnonzero(rows == row)
    return int(found[0]) if len(found) else None
