"""Fills the places of one answer under pins, slots, floors and caps.

Places are filled one after the other: each with what is pinned there, what a slot there is for, what a floor needs now
at the latest, else with the best item that is left; always with one that no cap forbids at that place. An answer ends
where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Mask, Rows
from serving.rules.prepared import Prepared
from serving.rules.schema import Cap, Floor, Pin, Slot

NONE = -1  # no item: the answer ends


class Constraints(NamedTuple):
    """The rules that place items, in the order of the file; `groups` int64 [size], of which one item each is answered,
    None: any number."""

    pins: Sequence[Prepared] = ()
    slots: Sequence[Prepared] = ()
    floors: Sequence[Prepared] = ()
    caps: Sequence[Prepared] = ()
    groups: NDArray[np.int64] | None = None


class Placed(NamedTuple):
    """By row: the rule that put an item at its place, and the cap that kept one from an earlier one."""

    placed: Mapping[int, str] = {}
    held: Mapping[int, str] = {}


@dataclass
class _Cap:
    """A cap over the items of one line: `codes` [k] of its values, -1 uncapped, and how many of each are placed."""

    rule: str  # empty: that of groups
    codes: list[int]
    of_row: NDArray[np.int64]
    most: int
    within: int
    counts: dict[int, int] = field(default_factory=dict)

    def full(self, at: int, place: int) -> bool:
        code = self.codes[at]
        return code >= 0 and place < self.within and self.counts.get(code, 0) >= self.most

    def take(self, at: int, place: int) -> None:
        if place < self.within and (code := self.codes[at]) >= 0:
            self.counts[code] = self.counts.get(code, 0) + 1


@dataclass
class _Floor:
    """A floor over the items of one line: which count, and how many more have to be placed."""

    rule: str
    members: list[bool]
    needed: int
    within: int

    def take(self, at: int, place: int) -> None:
        self.needed -= place < self.within and self.members[at]


class Placement:
    """The places of one answer of at most k items, filled from a shortlist.

    `rows` int64 [n] are the shortlist's items, best first; -1: none. `front` bool [n] are those that stand before all
    others.
    """

    def __init__(self, rules: Constraints, rows: Rows, front: Mask, k: int) -> None:
        self._k, self._rows = k, rows
        self._free = (rows >= 0).tolist()
        at, there = np.maximum(rows, 0), rows >= 0
        self._caps = list(self._capped(rules, at))
        self._floors = [
            _Floor(
                rule.name, own := (one.mask[at] & there).tolist(), min(rule.least, sum(own)), min(rule.within or k, k)
            )
            for one in rules.floors
            if isinstance(rule := one.rule, Floor) and one.mask is not None
        ]
        self._floors.sort(key=lambda floor: floor.within)
        self._slots = {
            rule.place - 1: (rule.name, one.mask[at].tolist())
            for one in reversed(rules.slots)  # of two at one place the first of the file counts
            if isinstance(rule := one.rule, Slot) and one.mask is not None
        }
        self._placed: dict[int, str] = {}
        self._held: dict[int, str] = {}
        self._fixed: dict[int, int] = {}
        if front.any():
            self._fix(np.flatnonzero(front & (rows >= 0)).tolist(), 0, None)
        position = {row: place for place, row in enumerate(rows.tolist())} if rules.pins else {}
        for one in rules.pins:
            if isinstance(rule := one.rule, Pin):
                self._fix([position[row] for row in one.rows.tolist() if row in position], rule.place - 1, rule.name)

    def _capped(self, rules: Constraints, at: Rows) -> Iterator[_Cap]:
        for one in rules.caps:
            if isinstance(rule := one.rule, Cap) and one.codes is not None:
                yield _Cap(
                    rule.name, one.codes[at].tolist(), one.codes, rule.most, min(rule.within or self._k, self._k)
                )
        if rules.groups is not None:
            yield _Cap("", rules.groups[at].tolist(), rules.groups, 1, self._k)

    def _fix(self, items: Iterable[int], place: int, rule: str | None) -> None:
        """Keeps the places from `place` on that are free for items, as far as caps let them through."""
        for at in items:
            while place in self._fixed:
                place += 1
            if place < self._k and self._free[at] and self._may(at, place):
                self._fixed[place] = at
                self._take(at, place, rule)

    def filled(self) -> list[int]:
        """The positions of the items that are answered, in order: k of them, or all that the caps let through."""
        left, found = [at for at, free in enumerate(self._free) if free], list[int]()
        for place in range(self._k):
            at = self.pick(place, left)
            if at == NONE:
                break
            found.append(at)
            if at in left:
                left.remove(at)
        return found

    def pick(self, place: int, ranked: Sequence[int]) -> int:
        """What stands at a place, where `ranked` are positions in the shortlist, best first; NONE: nothing may."""
        if place in self._fixed:
            return self._fixed.pop(place)
        for rule, members in self._wanted(place):
            at = self._first(ranked, place, members)
            if at != NONE:
                return self._take(at, place, rule)
        at = self._first(ranked, place, None)
        if at != NONE:
            return self._take(at, place, None)
        return self._brought_forward(place)

    @property
    def effects(self) -> Placed:
        """What put items at their places so far."""
        by_row = ({int(self._rows[at]): rule for at, rule in by.items()} for by in (self._placed, self._held))
        return Placed(*by_row)

    def still_open(self, place: int) -> Mask | None:
        """The rows of the version that no cap forbids at a place, bool [size]; None: none is forbidden."""
        found: Mask | None = None
        for cap in self._caps:
            full = [code for code, count in cap.counts.items() if count >= cap.most]
            if full and place < cap.within:
                may = ~np.isin(cap.of_row, full)
                found = may if found is None else found & may
        return found

    def _wanted(self, place: int) -> Iterator[tuple[str, list[bool]]]:
        """What has to stand at a place, the most urgent first."""
        if (slot := self._slots.get(place)) is not None:
            yield slot
        elif self._floors:
            yield from [(floor.rule, floor.members) for floor in self._due(place)]

    def _due(self, place: int) -> list[_Floor]:
        """The floors of which one has to be served now, if all are to be."""
        needed, open_floors = 0, [floor for floor in self._floors if floor.needed > 0 and place < floor.within]
        due = list[_Floor]()
        for floor in open_floors:  # by their ends
            needed += floor.needed
            due.append(floor)
            free = sum(at not in self._fixed and at not in self._slots for at in range(place, floor.within))
            if needed >= free:
                return due
        return []

    def _first(self, ranked: Sequence[int], place: int, members: list[bool] | None) -> int:
        for at in ranked:
            if self._free[at] and (members is None or members[at]) and self._may(at, place):
                return at
        return NONE

    def _may(self, at: int, place: int) -> bool:
        for cap in self._caps:
            if cap.full(at, place):
                if cap.rule:
                    self._held.setdefault(at, cap.rule)
                return False
        return True

    def _take(self, at: int, place: int, rule: str | None) -> int:
        self._free[at] = False
        for cap in self._caps:
            cap.take(at, place)
        for floor in self._floors:
            floor.take(at, place)
        if rule is not None:
            self._placed[at] = rule
        return at

    def _brought_forward(self, place: int) -> int:
        """The next of the items that are kept for later places, where nothing else is left for this one."""
        for later in sorted(self._fixed):
            at = self._fixed[later]
            newly = [cap for cap in self._caps if place < cap.within <= later]
            if not any(cap.full(at, place) for cap in newly):
                del self._fixed[later]
                for cap in newly:
                    cap.take(at, place)
                return at
        return NONE


def chosen(rules: Constraints, rows: Rows, front: Mask, k: int, before: Rows) -> tuple[list[int], Placement]:
    """The positions in a shortlist that are answered, and how they came to be.

    Under several caps which items come first may decide how many there can be. Where that leaves fewer than k, those
    are answered that the order `before`, int64 [n] positions, finds: what retrieval made sure of.
    """
    placement = Placement(rules, rows, front, k)
    found = placement.filled()
    if len(found) == k or len(rules.caps) + (rules.groups is not None) < 2:
        return found, placement
    sure = Placement(rules, rows[before], front[before], k).filled()
    if len(sure) < len(found):
        return found, placement
    only = np.full_like(rows, -1)
    only[before[sure]] = rows[before[sure]]
    placement = Placement(rules, only, front, k)
    return placement.filled(), placement
