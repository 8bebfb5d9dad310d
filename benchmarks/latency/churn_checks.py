"""Whether each of many answers comes from one release, one revision of its index and one rules file, as it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FAULTS = (
    "names a release that was not live yet",
    "names a revision that was not there yet",
    "names rules that were not written yet",
    "went back to an earlier release",
    "went back to an earlier revision",
    "has an item that is not in the index",
    "has an item that was deleted",
    "has a title of another revision",
    "has an item that its rules block",
)
(
    EARLY_RELEASE,
    EARLY_REVISION,
    EARLY_RULES,
    BACK_RELEASE,
    BACK_REVISION,
    UNKNOWN_ITEM,
    DELETED_ITEM,
    OTHER_TITLE,
    BLOCKED_ITEM,
) = FAULTS


class Seen(NamedTuple):
    """One answer. Times are monotonic seconds; `shown` are the ids and titles of its items, `variants` ids beside
    them."""

    kind: str
    begun: float
    ended: float
    release: str
    revision: int
    rules: str
    shown: Sequence[tuple[str, str]]
    variants: Sequence[str] = ()


class Activation(NamedTuple):
    """A release became live, at some time from `begun` to `ended`."""

    begun: float
    ended: float
    release: str
    index_name: str


class Revised(NamedTuple):
    """An index got another revision; the titles of items by id that it changed, None where it deleted the item."""

    begun: float
    ended: float
    index_name: str
    revision: int
    titles: Mapping[str, str | None]


class RulesWritten(NamedTuple):
    """A rules file was put in place, which blocks an item."""

    begun: float
    ended: float
    version: str
    blocked: str


@dataclass
class History:
    """What was done to a bundle, in its order; the first activation is what was live at the start."""

    activations: list[Activation] = field(default_factory=list)
    revisions: list[Revised] = field(default_factory=list)
    rules: list[RulesWritten] = field(default_factory=list)

    def last(self) -> tuple[str, int, str]:
        """What answers at the end: the release, the revision of its index, and the version of the rules."""
        live = self.activations[-1]
        revision = max((one.revision for one in self.revisions if one.index_name == live.index_name), default=0)
        return live.release, revision, self.rules[-1].version if self.rules else ""


class Checker:
    """Compares answers with what was done meanwhile. `titles` are those of every index as it was built, by item id."""

    def __init__(self, history: History, titles: Mapping[str, str]) -> None:
        self._activations, self._titles = history.activations, titles
        self._index = {one.release: one.index_name for one in history.activations}
        self._rules = {one.version: one for one in history.rules}
        self._changed: dict[tuple[str, int], Mapping[str, str | None]] = {}
        self._since: dict[tuple[str, int], float] = {}
        for index in self._index.values():
            self._changed[index, 0], self._since[index, 0] = {}, -math.inf
        for one in history.revisions:
            at = one.index_name, one.revision
            self._changed[at] = {**self._changed[one.index_name, one.revision - 1], **one.titles}
            self._since[at] = one.begun

    def in_turn(self, answers: Sequence[Seen]) -> Iterator[tuple[Seen, list[str]]]:
        """The answers that one caller got one after the other, each with its faults, which are among FAULTS."""
        place, newest = 0, dict[str, int]()
        for answer in answers:
            faults = list(self._faults(answer))
            index = self._index.get(answer.release)
            if index is not None:
                later = self._place(answer, place)
                if later is None and EARLY_RELEASE not in faults:
                    faults.append(BACK_RELEASE)
                place = place if later is None else later
                if answer.revision < newest.get(index, 0):
                    faults.append(BACK_REVISION)
                newest[index] = max(newest.get(index, 0), answer.revision)
            yield answer, faults

    def seconds_behind(self, answer: Seen) -> float:
        """How long the release that answered had been live no more when it was asked; 0 while it was live."""
        lately = 0.0
        for at, one in enumerate(self._activations):
            if one.release == answer.release and one.begun <= answer.begun:
                next_one = self._activations[at + 1 : at + 2]
                lately = max(0.0, answer.begun - next_one[0].ended) if next_one else 0.0
        return lately

    def _place(self, answer: Seen, place: int) -> int | None:
        """The first activation from a place on that the answer can come from; None where there is none."""
        for at, one in enumerate(self._activations[place:], start=place):
            if one.release == answer.release and one.begun <= answer.ended:
                return at
        return None

    def _faults(self, answer: Seen) -> Iterator[str]:
        index = self._index.get(answer.release)
        if index is None or not any(
            one.release == answer.release and one.begun <= answer.ended for one in self._activations
        ):
            yield EARLY_RELEASE
        if index is not None:
            if self._since.get((index, answer.revision), math.inf) > answer.ended:
                yield EARLY_REVISION
            else:
                yield from self._item_faults(answer, self._changed[index, answer.revision])
        if answer.rules:
            rules = self._rules.get(answer.rules)
            if rules is None or rules.begun > answer.ended:
                yield EARLY_RULES
            elif rules.blocked in {*(item for item, _ in answer.shown), *answer.variants}:
                yield BLOCKED_ITEM

    def _item_faults(self, answer: Seen, changed: Mapping[str, str | None]) -> Iterator[str]:
        found = set[str]()
        ids = [*(item for item, _ in answer.shown), *answer.variants]
        if any(item not in self._titles for item in ids):
            found.add(UNKNOWN_ITEM)
        if any(changed.get(item, "") is None for item in ids):
            found.add(DELETED_ITEM)
        for item, title in answer.shown:
            if (wanted := changed.get(item, self._titles.get(item))) is not None and wanted != title:
                found.add(OTHER_TITLE)
        yield from (fault for fault in FAULTS if fault in found)
