"""The live release as what the next one is held against: its items, and what it answers to the canaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexing.bundle.bundle import Bundle
from indexing.bundle.publish_gates import Gate, items_kept
from indexing.bundle.releases import Release
from indexing.version.item_columns import PART
from retrieval.encoders.runtime import RuntimeOptions
from serving.answering.release_state import ReleaseState
from serving.jobs.canaries import Canary, CanaryAnswers, answers_of, canary_gates


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """What was measured of the live release with the updates of its index; nothing of it is open any more."""

    release: Release
    updates: int
    items: int
    gone: int  # of its items, those that are not in the catalogue any more
    canaries: Sequence[Canary]
    answers: CanaryAnswers

    @classmethod
    def of(
        cls, bundle: Bundle, release: Release, canaries: Sequence[Canary], ids: Sequence[str], device: str
    ) -> Incumbent:
        """Of the live release beside a catalogue of item ids, each once; see `ReleaseState.of_release` for errors."""
        opened = ReleaseState.of_release(bundle, release, RuntimeOptions(device=device)).updated()
        version, answerable = opened.version, opened.version.answerable()
        items = version.size if answerable is None else int(np.count_nonzero(answerable))
        kept = sum(len(version.held(ids[start : start + PART])) for start in range(0, len(ids), PART))
        return cls(
            release=release,
            updates=version.revision,
            items=items,
            gone=items - kept,
            canaries=canaries,
            answers=answers_of(opened, canaries),
        )

    def items_gate(self, items: int, max_change: float) -> Gate:
        """Whether so many items may follow."""
        return items_kept(items, self.items, self.gone, max_change)

    def canary_gates(self, bundle: Bundle, draft: Release, device: str) -> list[Gate]:
        """Whether a release of the bundle answers the canaries as well. The same parts give the same answers."""
        if draft.parts() == self.release.parts() and not self.updates:
            return canary_gates(self.answers, self.answers)
        opened = ReleaseState.of_release(bundle, draft, RuntimeOptions(device=device))
        return canary_gates(answers_of(opened, self.canaries), self.answers.left_in(opened.version))
