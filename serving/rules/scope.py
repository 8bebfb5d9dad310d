"""When, where and for whom a rule holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from retrieval.text.analysis import Analyzer
from serving.rules.schema import Moment, Rule

if TYPE_CHECKING:
    from serving.request import TaskName

T = TypeVar("T")
TASK_OF: Mapping[TaskName, str] = {
    "recommend": "recommend",
    "recommend_unseen": "recommend",
    "search": "search",
    "personalised_search": "search",
    "similar": "similar",
    "complete_cart": "complete_cart",
}


@dataclass(frozen=True)
class Asked:
    """What rules read of a request: `now` is in seconds since 1970, `texts` are its query as typed and as corrected,
    `categories` those that it asks for."""

    now: float
    task: str
    page: str | None
    audience: Mapping[str, object]
    texts: Sequence[str]
    categories: frozenset[str]
    analyzer: Analyzer

    @cached_property
    def queries(self) -> list[list[str]]:
        """The stems of each text."""
        return [self.analyzer.stems(text) for text in self.texts]


@dataclass(frozen=True)
class Scope:
    """A rule's conditions, prepared: `begins` and `ends` in seconds since 1970, the latter excluded; None: any."""

    begins: float
    ends: float
    tasks: frozenset[str] | None
    pages: frozenset[str] | None
    audience: Mapping[str, frozenset[object]]
    query_is: frozenset[tuple[str, ...]] | None
    query_has: tuple[frozenset[str], ...] | None
    categories: frozenset[str] | None

    @classmethod
    def of(cls, rule: Rule, zone: tzinfo, analyzer: Analyzer) -> Scope:
        """Those of a rule, its dates in a zone, its queries as an analyzer reads them."""
        audience = {
            key: frozenset(value if isinstance(value, tuple) else (value,))
            for key, value in (rule.audience or {}).items()
        }
        return cls(
            begins=-math.inf if rule.begins is None else _moment(rule.begins, zone),
            ends=math.inf if rule.until is None else _moment(rule.until, zone, whole_day=True),
            tasks=_set(rule.tasks),
            pages=_set(rule.pages),
            audience=audience,
            query_is=_set(tuple(analyzer.stems(text)) for text in rule.query_is) if rule.query_is else None,
            query_has=tuple(frozenset(analyzer.stems(text)) for text in rule.query_has) if rule.query_has else None,
            categories=_set(rule.categories),
        )

    def holds(self, asked: Asked) -> bool:
        """Whether the rule is in force for a request."""
        return (
            self.begins <= asked.now < self.ends
            and (self.tasks is None or asked.task in self.tasks)
            and (self.pages is None or asked.page in self.pages)
            and all(_matches(asked.audience.get(key), wanted) for key, wanted in self.audience.items())
            and (self.categories is None or bool(asked.categories & self.categories))
            and (self.query_is is None or any(tuple(stems) in self.query_is for stems in asked.queries))
            and (self.query_has is None or any(words <= set(q) for q in asked.queries for words in self.query_has))
        )

    def meets(self, other: Scope) -> bool:
        """Whether both may be in force for one request, as far as can be told."""
        shared = self.audience.keys() & other.audience.keys()
        return (
            max(self.begins, other.begins) < min(self.ends, other.ends)
            and _overlap(self.tasks, other.tasks)
            and _overlap(self.pages, other.pages)
            and _overlap(self.query_is, other.query_is)
            and _overlap(self.categories, other.categories)
            and all(self.audience[key] & other.audience[key] for key in shared)
        )

    @property
    def reads_query(self) -> bool:
        """Whether the rule holds for some queries alone."""
        return self.query_is is not None or self.query_has is not None


def _matches(value: object, wanted: frozenset[object]) -> bool:
    """Whether what a request says of its shopper, a value or a list of them, is among those of a rule."""
    return any(one in wanted for one in value) if isinstance(value, list | tuple | set | frozenset) else value in wanted


def _overlap(one: frozenset[T] | None, other: frozenset[T] | None) -> bool:
    return one is None or other is None or bool(one & other)


def _set(values: Iterable[T] | None) -> frozenset[T] | None:
    return None if values is None else frozenset(values)


def _moment(when: Moment, zone: tzinfo, *, whole_day: bool = False) -> float:
    """Seconds since 1970; of a date its beginning, or with `whole_day` its end."""
    if not isinstance(when, datetime):
        when = datetime.combine(when + timedelta(days=int(whole_day)), time())
    return (when if when.tzinfo else when.replace(tzinfo=zone)).timestamp()
