"""The gates that a release has to pass before it becomes live; each is a decision over measured figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexing.bundle.manifest import JsonMap
from indexing.bundle.verify import Verification

CHECKSUMS = "checksums"  # the one gate that cannot be overruled
MAX_LOSS = 0.02  # of the canaries' recall, at most
MIN_OVERLAP = 0.5  # of the canaries' first items with those of the live release, at least
ROUNDING = 1e-9


class Gate(NamedTuple):
    """The result of one gate."""

    name: str
    passed: bool
    why: str  # the figures in words
    figures: JsonMap

    def as_json(self, *, overruled: bool = False) -> JsonMap:
        """As a release records it."""
        found: JsonMap = {"passed": self.passed, "why": self.why, **self.figures}
        return found | ({"overruled": True} if overruled else {})


def whole(verification: Verification) -> Gate:
    """Passes if every file of the release is as it was written."""
    faults = "; ".join(map(str, verification.faults[:5]))
    why = faults or f"{verification.files} files of {verification.bytes:,} bytes are as they were written"
    return Gate(CHECKSUMS, verification.sound, why, {"files": verification.files, "faults": len(verification.faults)})


def recall_reached(recall: float, target: float, k: int) -> Gate:
    """Passes if the index reaches the wanted recall against exact search.

    >>> recall_reached(0.93, 0.95, 100).why
    'recall@100 of the index is 0.930, 0.950 is wanted'
    """
    why = f"recall@{k} of the index is {recall:.3f}, {target:.3f} is wanted"
    return Gate("recall", recall >= target, why, {"recall": recall, "target": target})


def items_kept(items: int, live: int, gone: int, max_change: float) -> Gate:
    """Passes if the catalogue has about as many items as the live one and most of them are the same, which catches
    truncated and mistaken feeds. `gone` counts live items that are not in the new catalogue.

    >>> items_kept(27_000, 54_000, 27_000, 0.3).why
    '27,000 items after 54,000 (-50.0 %), of which 27,000 (50.0 %) are gone, and 30 % is allowed'
    """
    if not live:
        why = f"{items:,} items after none: an empty live catalogue cannot be compared with"
        return Gate("items", False, why, {"items": items, "live": 0, "gone": 0, "max_change": max_change})
    more, lost = items / live - 1, gone / live
    changes = f"({100 * more:+.1f} %), of which {gone:,} ({100 * lost:.1f} %) are gone"
    why = f"{items:,} items after {live:,} {changes}, and {100 * max_change:.3g} % is allowed"
    figures: JsonMap = {"items": items, "live": live, "gone": gone, "max_change": max_change}
    return Gate("items", max(abs(more), lost) <= max_change + ROUNDING, why, figures)


def recall_kept(after: ArrayLike, before: ArrayLike, k: int) -> Gate:
    """Passes if the canaries' mean recall@k is about that of the live release; float [n] each.

    With so few canaries that one of them counts for more than MAX_LOSS, one of them may be lost.

    >>> recall_kept([1, 0, 0, 0], [1, 1, 1, 0], 10).why
    'recall@10 of 4 canaries is 0.250 after 0.750, and a loss of 0.25 is allowed'
    """
    n, now, then = np.size(after), float(np.mean(np.asarray(after))), float(np.mean(np.asarray(before)))
    allowed = max(MAX_LOSS, 1 / n)
    why = f"recall@{k} of {n} canaries is {now:.3f} after {then:.3f}, and a loss of {allowed:.2g} is allowed"
    kept = now >= then - allowed - ROUNDING
    return Gate(f"canaries recall@{k}", kept, why, {"n": n, "recall": now, "live": then, "allowed": allowed})


def answers_kept(after: Sequence[Sequence[str]], before: Sequence[Sequence[str]], k: int, who: str) -> Gate:
    """Passes if the first k items of `who` are mostly those of the live release; only for releases of the same towers.

    >>> answers_kept([["a", "b"]], [["b", "c"]], 10, "canaries").passed
    True
    """
    mean = float(np.mean([overlap(new[:k], old[:k]) for new, old in zip(after, before, strict=True)]))
    shared = f"the first {k} items of {len(after)} {who} overlap by {mean:.3f} with those of the live release"
    found: JsonMap = {"n": len(after), "overlap": mean, "wanted": MIN_OVERLAP}
    return Gate(f"{who} overlap@{k}", mean >= MIN_OVERLAP, f"{shared}, {MIN_OVERLAP} is wanted", found)


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The number of shared items over the length of the longer list; 1 for two empty lists."""
    longest = max(len(one), len(other))
    return len(set(one) & set(other)) / longest if longest else 1.0


def recall_of(answers: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], k: int) -> NDArray[np.float64]:
    """Recall@k of each answer: wanted items among its first k, over min(k, number wanted); float64 [n].

    >>> recall_of([["a", "b"], ["c"]], [["b", "z"], ["d"]], 10).tolist()
    [0.5, 0.0]
    """
    shares = [
        len(set(answer[:k]) & set(right)) / min(k, len(right)) for answer, right in zip(answers, wanted, strict=True)
    ]
    return np.array(shares)
