"""Rules of one file that cannot all be kept, each named with its line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from indexing.version.index_version import IndexVersion
from retrieval.topk import Mask
from serving.rules.compiled import PLACING, may_answer
from serving.rules.load import Fault, RuleSet
from serving.rules.prepared import Prepared
from serving.rules.schema import AnyRule, Block, Cap, Floor, Only, Pin, Slot
from serving.rules.scope import Scope

Numbered: TypeAlias = tuple[int, Prepared]


def empty_dates(rules: RuleSet, scopes: Sequence[Scope]) -> Iterator[Fault]:
    """Rules that hold at no time."""
    for at, scope in enumerate(scopes):
        if scope.begins >= scope.ends:
            yield rules.fault(at, "holds at no time: until is not after from; correct one of them", "until")


def contradictions(
    rules: RuleSet, prepared: Sequence[Prepared], scopes: Sequence[Scope], version: IndexVersion
) -> list[Fault]:
    """What cannot be kept together over a version's items, of rules that may hold for one request: pins, slots and
    floors of items that are never answered, two on one place, more than a cap lets through, and nothing left."""
    found = list(empty_dates(rules, scopes))
    may = {at: mask for at, one in enumerate(prepared) if (mask := may_answer(one)) is not None}
    for at, one in enumerate(prepared):
        if not isinstance(one.rule, PLACING) or isinstance(one.rule, Cap):
            continue
        for other, mask in may.items():
            if scopes[at].meets(scopes[other]):
                found += _hidden(rules, at, one, prepared[other], mask, version)
        for other, cap in enumerate(prepared):
            if isinstance(cap.rule, Cap) and scopes[at].meets(scopes[other]):
                found += _capped(rules, at, one, cap)
    return [*found, *_same_place(rules, scopes), *_nothing_left(rules, may, scopes, version)]


def _hidden(
    rules: RuleSet, at: int, one: Prepared, other: Prepared, may: Mask, version: IndexVersion
) -> Iterator[Fault]:
    """Items that one rule places and another never lets be answered."""
    name = other.rule.name
    if isinstance(one.rule, Pin):
        if hidden := version.ids_of(one.rows[~may[one.rows]]):
            yield rules.fault(at, f"pins {', '.join(hidden)}, which rule {name!r} never lets be answered", "items")
    elif one.mask is not None and one.mask.any() and not (one.mask & may).any():
        yield rules.fault(at, f"is about items of which rule {name!r} lets none be answered", "filter")


def _capped(rules: RuleSet, at: int, one: Prepared, cap: Prepared) -> Iterator[Fault]:
    """More items of a value than a cap lets through, all of them within its places."""
    rule, limit = one.rule, cap.rule
    assert isinstance(limit, Cap), "others cap nothing"
    assert cap.codes is not None, "caps have a column"
    if isinstance(rule, Pin):
        within = len(one.rows) if limit.within is None else max(0, limit.within - rule.place + 1)
        counts = Counter(code for code in cap.codes[one.rows[:within]].tolist() if code >= 0)
        if counts and max(counts.values()) > limit.most:
            yield rules.fault(at, f"pins {max(counts.values())} items of one {limit.column}{_over(limit)}", "items")
    if isinstance(rule, Floor) and one.mask is not None:
        if limit.within is not None and (rule.within is None or limit.within < rule.within):
            return  # the places behind those of the cap are free
        codes, counted = np.unique(cap.codes[one.mask], return_counts=True)
        possible = int(np.where(codes < 0, counted, np.minimum(counted, limit.most)).sum())
        if possible < min(rule.least, int(one.mask.sum())):
            yield rules.fault(at, f"wants {rule.least} items where there can be {possible}{_over(limit)}", "least")


def _over(limit: Cap) -> str:
    return f", and rule {limit.name!r} lets {limit.most} of each {limit.column} through"


def _same_place(rules: RuleSet, scopes: Sequence[Scope]) -> Iterator[Fault]:
    """Pins and slots on one place."""
    places = {at: _places(rule) for at, rule in enumerate(rules.rules)}
    for (one, own), (other, others) in combinations(places.items(), 2):
        if (shared := own & others) and scopes[one].meets(scopes[other]):
            first = rules.rules[one].name
            yield rules.fault(other, f"wants place {min(shared)}, which rule {first!r} has already", "place")


def _places(rule: AnyRule) -> set[int]:
    if isinstance(rule, Pin):
        return set(range(rule.place, rule.place + len(rule.items)))
    return {rule.place} if isinstance(rule, Slot) else set()


def _nothing_left(
    rules: RuleSet, may: dict[int, Mask], scopes: Sequence[Scope], version: IndexVersion
) -> Iterator[Fault]:
    """Rules that alone, or two together, let no item be answered."""
    there = version.answerable()
    every = np.ones(version.size, bool) if there is None else there
    empty = {at for at, mask in may.items() if not (mask & every).any()}
    for at in sorted(empty):
        yield rules.fault(at, "lets no item of the catalogue be answered; correct its items or remove it", "filter")
    for one, other in combinations(may, 2):
        if not {one, other} & empty and scopes[one].meets(scopes[other]) and not (may[one] & may[other] & every).any():
            kinds = (Block, Only)
            key = "filter" if isinstance(rules.rules[other], kinds) else None
            yield rules.fault(other, f"and rule {rules.rules[one].name!r} together let no item be answered", key)
