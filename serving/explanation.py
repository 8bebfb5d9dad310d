"""Why an item stands where it does: in numbers for engineers, in words for shoppers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

from serving.texts.catalogue import Language, text, text_or


def of_json(kind: type[Any], told: Mapping[str, Any]) -> Any:
    """A named tuple or a dataclass out of its fields as JSON has them; what it has no field for is left out, so that
    what a newer version tells can be read."""
    return kind(**{name: told[name] for name in kind.__annotations__ if name in told})


class SourceScore(NamedTuple):
    """What a candidate source gives an item."""

    score: float  # the source's own; 0: it knows nothing of the item
    weight: float  # in the weighted sum of the sources
    share: float  # weight * score: its part of that sum
    place: int  # among the candidates by this source alone, from 1; ties share the first
    proposed: bool  # whether the item was among those that this source proposed


class RuleEffect(NamedTuple):
    """What one merchandising rule did to one item of an answer.

    `kind` is that of the rule. `shift` are the standard deviations of relevance that a boost added, 0 for other kinds.
    `places` are those that the item moved up by all rules together, below 0 where it moved down.
    """

    rule: str
    kind: str
    shift: float
    places: int


class EventCause(NamedTuple):
    """An item of the shopper's history or cart, and what all events on it change together."""

    item_id: str
    title: str
    event: str  # the kind of the strongest of the events, as in the data; empty: unknown
    time: int  # of that event, microseconds since 1970, UTC
    effect: float  # the explained item's score less its score without these events
    logit_effect: float | None = None  # the same of the cross-encoder's logit; None: not asked for, or not read


class WordCause(NamedTuple):
    """A word or a measure of the query, and what it changes."""

    word: str
    effect: float  # see EventCause
    logit_effect: float | None = None


@dataclass(frozen=True)
class Reason:
    """A sentence that people read: its key in `serving/texts`, and what it speaks of; `stage` by its name there."""

    key: str
    values: dict[str, str] = field(default_factory=dict, hash=False)

    def text(self, language: Language = "en") -> str:
        """The sentence in a language. Raises BadRequest for a language without texts.

        >>> Reason("why.bought", {"title": "Red mug"}).text()
        'because you bought Red mug'
        """
        stage = self.values.get("stage", "")
        return text(self.key, language, **self.values | {"stage": text_or(f"why_not.stage_{stage}", stage, language)})

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Out of what `to_dict` gave.

        >>> Reason.from_dict({"key": "why.bought", "values": {"title": "Red mug"}}).text()
        'because you bought Red mug'
        """
        return cls(told["key"], dict(told["values"]))


@dataclass(frozen=True)
class Explanation:
    """Why one item stands where it does.

    `places` are its places from 1 after each stage that ordered the answer, by the stage: `retrieval`, `features`,
    `cross-encoder`, `groups`, `rules`, `diversity`. `sources` are what the candidate sources gave it, `rules` what
    merchandising rules did to it. `events` and `words` are what it was scored for, the largest effect first: its score
    (of the feature ranker where features ordered, else the weighted sum of the sources) less its score without these
    events or this word, all else the same. `reasons` are what may be said to a shopper, the strongest first.
    """

    places: Mapping[str, int] = field(default_factory=dict, hash=False)
    sources: Mapping[str, SourceScore] = field(default_factory=dict, hash=False)
    events: tuple[EventCause, ...] = ()
    words: tuple[WordCause, ...] = ()
    rules: tuple[RuleEffect, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def to_dict(self, language: Language = "en") -> dict[str, object]:
        """As JSON, the reasons in a language, and by the keys that they have in every language."""
        return {
            "reasons": [reason.text(language) for reason in self.reasons],
            "reason_keys": [reason.to_dict() for reason in self.reasons],
            "places": dict(self.places),
            "sources": {name: given._asdict() for name, given in self.sources.items()},
            "events": [cause._asdict() for cause in self.events],
            "words": [cause._asdict() for cause in self.words],
            "rules": [effect._asdict() for effect in self.rules],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Out of what `to_dict` gave, in whatever language."""
        return cls(
            places=dict(told["places"]),
            sources={name: of_json(SourceScore, given) for name, given in told["sources"].items()},
            events=tuple(of_json(EventCause, cause) for cause in told["events"]),
            words=tuple(of_json(WordCause, cause) for cause in told["words"]),
            rules=tuple(of_json(RuleEffect, effect) for effect in told["rules"]),
            reasons=tuple(map(Reason.from_dict, told["reason_keys"])),
        )
