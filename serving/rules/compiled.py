"""The rules of a file over one index version, and those of them that hold for a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexing.version.filters import parse_filters
from indexing.version.index_version import IndexVersion
from retrieval.text.analysis import Analyzer
from retrieval.topk import Mask, Rows
from serving.rules.load import BadRules, RuleSet
from serving.rules.placement import Constraints
from serving.rules.prepared import Prepared, prepare
from serving.rules.schema import Block, Boost, BoughtBefore, Cap, Floor, InStock, Only, Pin, Slot
from serving.rules.scope import TASK_OF, Asked, Scope

if TYPE_CHECKING:
    from serving.request import Request, TaskName

PLACING = (Pin, Slot, Floor, Cap)  # in the order of Constraints' fields
REMEMBERED = 64  # sets of rules that hold together, each with a mask of one byte an item


class Need(NamedTuple):
    """Items that a shortlist should hold: at least `least` of the `mask` bool [size], where it has as many."""

    mask: Mask
    least: int


@dataclass(frozen=True, eq=False)
class ActiveRules:
    """The rules that hold for some requests, `version` being that of their file."""

    version: str
    rules: tuple[Prepared, ...]
    now: Callable[[], float]

    @cached_property
    def allowed(self) -> Mask | None:
        """The items that may be answered, bool [size], not to be written to; None: all."""
        found: Mask | None = None
        for one in self.rules:
            if (may := may_answer(one)) is not None:
                found = may if found is None else found & may
        return found

    def disallowing(self, row: int) -> tuple[str, ...]:
        """The names of the rules that never let an item be answered."""
        return tuple(one.rule.name for one in self.rules if (may := may_answer(one)) is not None and not may[row])

    def keeping_bought(self, row: int) -> tuple[str, ...]:
        """The names of the rules that decide when an item that was bought is answered again."""
        return tuple(one.rule.name for one in self.bought if one.numbers is not None and np.isfinite(one.numbers[row]))

    @cached_property
    def bought(self) -> tuple[Prepared, ...]:
        """Those about what shoppers bought."""
        return tuple(one for one in self.rules if isinstance(one.rule, BoughtBefore))

    @cached_property
    def boosts(self) -> tuple[Prepared, ...]:
        """Those that move items."""
        return tuple(one for one in self.rules if isinstance(one.rule, Boost))

    @cached_property
    def constraints(self) -> Constraints:
        """Those that place items."""
        pins, slots, floors, caps = (tuple(one for one in self.rules if isinstance(one.rule, kind)) for kind in PLACING)
        return Constraints(pins, slots, floors, caps)

    @cached_property
    def places(self) -> bool:
        """Whether any rule places items."""
        return any(isinstance(one.rule, PLACING) for one in self.rules)

    @property
    def reorders(self) -> bool:
        """Whether any rule moves or places items."""
        return self.places or bool(self.boosts)

    @cached_property
    def pinned(self) -> Rows:
        """The rows of items that are pinned and may be answered, int64."""
        rows = np.concatenate([np.empty(0, np.int64), *(one.rows for one in self.constraints.pins)])
        return np.unique(rows if self.allowed is None else rows[self.allowed[rows]])

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """What shortlists should hold for slots and floors to be kept."""
        found = list[Need]()
        for one in (*self.constraints.slots, *self.constraints.floors):
            assert one.mask is not None, "slots and floors name items"
            mask = one.mask if self.allowed is None else one.mask & self.allowed
            found.append(Need(mask, min(_needed(one), int(mask.sum()))))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class CompiledRules:
    """The rules of a file over an index version. Safe to use from many threads.

    `now` tells seconds since 1970, UTC.
    """

    ruleset: RuleSet
    version: IndexVersion
    analyzer: Analyzer
    prepared: tuple[Prepared, ...]
    scopes: tuple[Scope, ...]
    now: Callable[[], float]
    _active: dict[tuple[int, ...], ActiveRules] = field(default_factory=dict)

    @classmethod
    def of(
        cls, ruleset: RuleSet, version: IndexVersion, analyzer: Analyzer, now: Callable[[], float] = time.time
    ) -> CompiledRules:
        """Raises BadRules with all faults for rules that do not fit the version's columns."""
        prepared, faults, _ = prepare(ruleset, version)
        if faults:
            raise BadRules(ruleset.source, faults)
        return cls(ruleset, version, analyzer, tuple(prepared), scopes_of(ruleset, analyzer), now)

    def over(self, version: IndexVersion) -> CompiledRules:
        """The same rules over another version of the items. Raises BadRules where they do not fit it."""
        return self if version is self.version else CompiledRules.of(self.ruleset, version, self.analyzer, self.now)

    def active(self, request: Request, task: TaskName, read: Callable[[], Sequence[str]]) -> ActiveRules:
        """The rules that hold for a request of a task; `read` gives its query as typed and as corrected."""
        now = self.now()
        asked = Asked(
            now=now,
            task=TASK_OF[task],
            page=request.page,
            audience=request.audience or {},
            texts=read() if self._reads_query and request.text else (),
            categories=frozenset(self._categories(request)) if self._reads_categories else frozenset(),
            analyzer=self.analyzer,
        )
        key = tuple(at for at, scope in enumerate(self.scopes) if scope.holds(asked))
        found = self._active.get(key)
        if found is None:
            if len(self._active) >= REMEMBERED:
                self._active.clear()
            rules = tuple(self.prepared[at] for at in key)
            found = self._active[key] = ActiveRules(self.ruleset.version, rules, self.now)
        return found

    @cached_property
    def _reads_query(self) -> bool:
        return any(scope.reads_query for scope in self.scopes)

    @cached_property
    def _reads_categories(self) -> bool:
        return any(scope.categories is not None for scope in self.scopes)

    def _categories(self, request: Request) -> Iterator[str]:
        """The categories that a request asks for: those of its filters, where these let no others pass, and those of
        the item that others are to be similar to."""
        if "category" not in self.version.stored.schema.names:
            return
        if request.filters:
            cases = parse_filters(request.filters, self.version.stored.schema).lists
            named = [{one for condition in case for one in _named_categories(condition)} for case in cases]
            yield from set.union(*named) if all(named) else ()
        if request.task == "similar" and request.events:
            rows = self.version.rows_of([request.events[0].item_id])
            value = self.version.values_at("category", rows)[0].as_py()
            yield from [value] if isinstance(value, str) else value or ()


def scopes_of(ruleset: RuleSet, analyzer: Analyzer) -> tuple[Scope, ...]:
    """When, where and for whom each rule holds."""
    return tuple(Scope.of(rule, ruleset.zone, analyzer) for rule in ruleset.rules)


def _named_categories(condition: tuple[str, str, object]) -> Iterator[str]:
    column, operator, value = condition
    if column == "category" and operator in ("=", "==", "in"):
        yield from (str(one) for one in (value if isinstance(value, tuple) else (value,)))


def may_answer(one: Prepared) -> Mask | None:
    """The items that a rule lets through; None: all, or of what was bought as the shopper did."""
    if one.mask is None or not isinstance(one.rule, Block | Only | InStock):
        return None
    return ~one.mask if isinstance(one.rule, Block) else one.mask


def _needed(one: Prepared) -> int:
    """How many of its items a rule has to find in a shortlist."""
    rule = one.rule
    if isinstance(rule, Slot):
        return rule.place  # as many may stand before it
    return rule.least if isinstance(rule, Floor) else 0
