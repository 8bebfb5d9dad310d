"""What a caller asks and what the engine answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args

from retrieval.data.time_units import SECOND
from retrieval.errors import BadRequest
from retrieval.text.rendering import query_text
from serving.explanation import Explanation, of_json
from serving.texts.catalogue import Language, fallback_text, retold, text

TaskName: TypeAlias = Literal[
    "recommend", "recommend_unseen", "search", "personalised_search", "similar", "complete_cart"
]
Audience: TypeAlias = Mapping[str, object]  # what is known of a shopper: a text, number, truth value or list by name
DiversityMethod: TypeAlias = Literal["mmr", "dpp"]
Explain: TypeAlias = bool | Literal["full"]
Condition: TypeAlias = tuple[str, str, object]  # column, operator, value
Filters: TypeAlias = str | Sequence[Condition] | Sequence[Sequence[Condition]]
"""`"price < 20 and brand in (Acme, Other)"`; conditions that all have to hold; or lists of which any one has to."""


FEATURES, CROSS_ENCODER = "features", "cross-encoder"  # what can order a shortlist anew
OPTIONAL = (
    "contributions",
    "variants",
    "explanation",
    "rules",
)  # fields of a hit that JSON has where they hold something
FOREVER = 1e12  # milliseconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH).total_seconds()


class GivenEvent(NamedTuple):
    """An event of a history that comes with a request."""

    item_id: str
    event: str | None = None  # its kind, as in the data; None: the item was taken
    time: int | None = None  # microseconds since 1970, UTC; None: when the one before it happened


Given: TypeAlias = str | Sequence[Any]
"""An item id, or (item id, event, time): the event's kind, and a datetime (UTC where it names no zone), an ISO 8601
text or seconds since 1970; either may be None."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of a `task`, by default a recommendation, or a search where there is a query.

    A user, a history and a query can each be absent; a given history stands in for what is known of the user. It is
    a list of item ids, oldest first, which are read as taken now, or of (item id, event, time), which are read as
    stored events are; see `Given`. It is the cart where a cart is to be completed, and the item that others are to be
    similar to: then of item ids alone.
    `filter_seen`: True leaves out items that the user already took, False keeps them, None does as the release was
    built to. `filters` over the items' attributes: only items that pass are answered. They are text,
    `"price < 20 and category in (Mugs, Cups)"`, or lists, `[("price", "<", 20), ("category", "in", ["Mugs", "Cups"])]`;
    see `indexing.version.filter_grammar`.
    `deadline_ms`: milliseconds from the call within which an answer is wanted; stages that are not expected to fit, by
    how long they took recently, are left out, and no more places are reranked than fit.
    `spellcheck`: whether words of the query that no item has may be corrected. `one_per_group`: whether of items with
    the same `group_id` the best alone is answered, its `variants` naming the others. `explain`: whether hits say why
    they stand where they do, in `contributions` and `explanation`; "full": also what each event and word changes for
    the cross-encoder, which reads every hit again for each of them. `diversity`: how much relevance is given up for
    unlike items next to each other, from 0, none, to 1; chosen by maximal marginal relevance (`mmr`) or a determinantal
    point process (`dpp`, which looks at all items together, not at the nearest alone). `page`, where the
    answer is shown, and `audience`, what is known of the shopper, such as `{"country": "DE", "member": True}`, with a
    value or a list of them for each name, decide which merchandising rules hold.
    """

    task: TaskName | None = None
    user_id: str | None = None
    history: Sequence[Given] | None = None
    query: str | None = None
    k: int = 10
    filter_seen: bool | None = None
    rerank: bool = True
    filters: Filters | None = None
    deadline_ms: float | None = None
    spellcheck: bool = True
    explain: Explain = False
    diversity: float = 0.0
    diversify_by: DiversityMethod = "mmr"
    one_per_group: bool = True
    page: str | None = None
    audience: Audience | None = None

    def __post_init__(self) -> None:
        if self.task is None:
            object.__setattr__(self, "task", "recommend" if self.query is None else "search")
        elif self.task not in get_args(TaskName):
            raise BadRequest(f"task is {self.task!r}; give one of {', '.join(get_args(TaskName))}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadRequest(f"k is {self.k!r}; ask for 1 item or more")
        for name, value in (("query", self.query), ("user_id", self.user_id), ("page", self.page)):
            if value is not None and not isinstance(value, str):
                raise BadRequest(f"{name} is {type(value).__name__}; give a string")
        if self.task in ("complete_cart", "similar") and any(not isinstance(one, str) for one in self.history or ()):
            raise BadRequest(f"{self.task} is asked with item ids alone; give a list of strings")
        _ = self.events  # what cannot be read is refused here
        if self.audience is not None:
            _check_audience(self.audience)
        if self.filter_seen is not None and not isinstance(self.filter_seen, bool):
            raise BadRequest(f"filter_seen is {self.filter_seen!r}; give True, False or None")
        if not isinstance(self.explain, bool) and self.explain != "full":
            raise BadRequest(f'explain is {self.explain!r}; give True, False or "full"')
        if (
            isinstance(self.diversity, bool)
            or not isinstance(self.diversity, int | float)
            or not 0 <= self.diversity <= 1
        ):
            raise BadRequest(f"diversity is {self.diversity!r}; give a number from 0 (none) to 1")
        if self.diversify_by not in get_args(DiversityMethod):
            raise BadRequest(
                f"diversify_by is {self.diversify_by!r}; give one of {', '.join(get_args(DiversityMethod))}"
            )
        if self.deadline_ms is not None and not _is_time(self.deadline_ms):
            raise BadRequest(f"deadline_ms is {self.deadline_ms!r}; give milliseconds above 0, or None")

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """A request from a mapping of its fields, such as the body of an HTTP call. Raises BadRequest for a field that
        requests do not have."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise BadRequest(f"{unknown[0]} is no field of a request; it has {', '.join(cls.__dataclass_fields__)}")
        return cls(**fields)

    def alike(self, **fields: object) -> Self:
        """The same request of another user, history or query; these are not checked again, and have to be texts."""
        made = object.__new__(type(self))
        made.__dict__.update({name: self.__dict__[name] for name in self.__dataclass_fields__}, **fields)
        return made

    @cached_property
    def events(self) -> tuple[GivenEvent, ...]:
        """The given history; empty where there is none."""
        if isinstance(self.history, str) or not isinstance(self.history, Sequence | None):
            raise BadRequest("history is not a list of item ids; give a list of strings, oldest first")
        return tuple(map(_given, self.history or ()))

    @cached_property
    def text(self) -> str:
        """The query as models read it; empty where nothing is asked for."""
        return query_text((self.query or "").encode("utf-8", "replace").decode("utf-8"))


@dataclass(frozen=True)
class Hit:
    """One answered item.

    `score` never rises from place to place of a reranked answer, but where it was made diverse or rules moved items. Of
    an item that was reranked it is the logit of the last cross-encoder that read it, blended with the score before if
    the release has a blend, under the model's activation: with a blend the chance that it is what is wanted, without
    one what `CrossEncoder.predict` gives. Of any other it is the inner product of the towers' vectors, or the weighted
    sum of several sources' scores if the release has a fusion (of popular items alone: how often they were taken).
    These are scales of their own, so behind items that a later model or any model read a score is capped by that of
    the place before, and what a search names by its id has at least the score of what follows. `retrieval_rank` is
    the place before reranking, from 1; `sources` are those that proposed it. `contributions`, where the request
    asks for them and features ordered, are what each feature adds to the score of the feature ranker, `retrieval`
    being the order before, and `cross-encoder` what that adds to the blended logit of what it read. `variants` are
    the ids of other items of its `group_id` that may be answered, where one item of a group is. `rules` are the names
    of the merchandising rules that moved or placed it.
    """

    item_id: str
    title: str
    score: float
    retrieval_rank: int
    sources: tuple[str, ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict, hash=False)
    variants: tuple[str, ...] = ()
    explanation: Explanation | None = None
    rules: tuple[str, ...] = ()

    def to_dict(self, language: Language | None = None) -> dict[str, object]:
        """As JSON; contributions, variants, an explanation and rules where there are any, its reasons in a language."""
        told = {
            **vars(self),
            "sources": list(self.sources),
            "contributions": dict(self.contributions),
            "variants": list(self.variants),
            "explanation": None if self.explanation is None else self.explanation.to_dict(language or "en"),
            "rules": list(self.rules),
        }
        return {name: value for name, value in told.items() if value or name not in OPTIONAL}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Out of what `to_dict` gave, in whatever language."""
        explanation = told.get("explanation")
        read = {
            "sources": tuple(told["sources"]),
            "contributions": dict(told.get("contributions", {})),
            "variants": tuple(told.get("variants", ())),
            "explanation": None if explanation is None else Explanation.from_dict(explanation),
            "rules": tuple(told.get("rules", ())),
        }
        hit: Self = of_json(cls, {**told, **read})
        return hit


@dataclass(frozen=True)
class Answer:
    """The items, best first, and how they came about: from one release at one revision of its index."""

    items: tuple[Hit, ...]
    release: str
    fallbacks: tuple[str, ...] = ()  # what stood in for what was missing, such as "popular items"
    reranked: tuple[str, ...] = ()  # what ordered the shortlist anew: "features", "cross-encoder"
    timings_ms: dict[str, float] = field(default_factory=dict)  # by stage
    index_revision: int = 0  # how many updates the release's index has had
    degraded: tuple[str, ...] = ()  # what had no time or failed: "rerank: failed", "rerank, full model: 2 of 30 places"
    corrected_query: str = ""  # the query after spelling correction; empty where nothing was corrected, or in doubt
    also_searched: str = ""  # where a correction is in doubt: the corrected query, searched for beside the one typed
    rules: str = ""  # the version of the merchandising rules in force; empty without any

    def notes(self, language: Language = "en") -> tuple[str, ...]:
        """What a shopper may be told of how the answer came about: the query searched for, what stood in for what, what
        the deadline cut. Raises BadRequest for a language without texts."""
        searched = (text("note.searched", language, query=self.corrected_query),) if self.corrected_query else ()
        if self.also_searched:
            searched = (text("note.also_searched", language, query=self.also_searched),)
        stood_in = (fallback_text(code, language) for code in self.fallbacks)
        return (*searched, *stood_in, *(retold(cut, language) for cut in self.degraded))

    def to_dict(self, language: Language | None = None) -> dict[str, object]:
        """As JSON; with a language also `notes`."""
        told: dict[str, object] = {} if language is None else {"notes": list(self.notes(language))}
        return told | {
            "items": [hit.to_dict(language) for hit in self.items],
            "release": self.release,
            "index_revision": self.index_revision,
            "fallbacks": list(self.fallbacks),
            "degraded": list(self.degraded),
            "corrected_query": self.corrected_query,
            "also_searched": self.also_searched,
            "reranked": list(self.reranked),
            "rules": self.rules,
            "timings_ms": self.timings_ms,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Out of what `to_dict` gave, in whatever language."""
        lists = {name: tuple(told[name]) for name in ("fallbacks", "degraded", "reranked")}
        answer: Self = of_json(cls, {**told, **lists, "items": tuple(map(Hit.from_dict, told["items"]))})
        return answer


def _given(one: object) -> GivenEvent:
    if isinstance(one, str):
        return GivenEvent(one)
    if not isinstance(one, list | tuple) or len(one) != 3 or not isinstance(one[0], str):
        raise BadRequest(f"history holds {one!r:.80}; give item ids, or (item id, event, time), oldest first")
    item, event, when = one
    if event is not None and not isinstance(event, str):
        raise BadRequest(f"history holds the event {event!r:.80} of {item}; give its kind as a string, or None")
    return GivenEvent(item, event, None if when is None else _microseconds(when, item))


def _microseconds(when: object, item: str) -> int:
    found = read_time(when)
    if found is None:
        raise BadRequest(
            f"history holds the time {when!r:.80} of {item}; give a datetime, a text such as 2026-01-31T12:00, "
            "seconds since 1970, or None"
        )
    return found


def read_time(when: object) -> int | None:
    """Microseconds since 1970 of a datetime or an ISO 8601 text, UTC where they name no zone, or of seconds since 1970;
    None for anything else.

    >>> read_time("1970-01-01T00:00:01"), read_time(1.5), read_time("yesterday")
    (1000000, 1500000, None)
    """
    try:
        if isinstance(when, str):
            when = datetime.fromisoformat(when)
        if isinstance(when, datetime):
            return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        pass
    if isinstance(when, int | float) and not isinstance(when, bool) and math.isfinite(when) and 0 <= when < LATEST:
        return round(when * SECOND)
    return None


def _check_audience(audience: object) -> None:
    if not isinstance(audience, Mapping):
        raise BadRequest(f"audience is {audience!r:.80}; give names with values, such as {{'country': 'DE'}}")
    for name, value in audience.items():
        several = value if isinstance(value, list | tuple) else (value,)
        if not isinstance(name, str) or not all(isinstance(one, str | int | float | bool) for one in several):
            raise BadRequest(f"audience holds {name!r}: {value!r:.80}; give a text, a number, true, false, or a list")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < FOREVER
