"""What is said of an item that is not answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from serving.explanation import Reason, of_json
from serving.texts.catalogue import Language, text

ANSWERED = "answered"


class SourceGap(NamedTuple):
    """What a candidate source gives an item, and what it gives the last item that it proposed."""

    score: float  # 0: it knows nothing of the item
    last: float | None  # None: it proposed all that it knows of
    weight: float  # in the weighted sum of the sources


@dataclass(frozen=True)
class Change:
    """Fields of the request to ask with instead, and the place that the item has then, from 1, or at most."""

    fields: Mapping[str, object] = field(hash=False)
    place: int

    def text(self, language: Language = "en") -> str:
        """The change in a language."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return text("why_not.change", language, fields=fields, place=self.place)

    def to_dict(self, language: Language = "en") -> dict[str, object]:
        """As JSON, in words of a language, too."""
        return {"fields": dict(self.fields), "place": self.place, "text": self.text(language)}


@dataclass(frozen=True, kw_only=True)
class WhyNot:
    """Why an item is not among the k answered ones.

    `stage` is the first that lost it: `unknown`, `deleted`, `filtered`, `excluded`, `retrieval` (it is no candidate),
    `features`, `cross-encoder`, `groups`, `diversity` or another stage of ordering; or `answered`. `reason` says it in
    words. `places` are its places from 1 after each stage that had it. `sources` are what each source gives it, where
    it is no candidate; `place_as_candidate` is then where it would stand, from 1, were it one. `short_of` is what its
    score lacks: to be the last candidate, or to reach place k by the stage that ordered it; `terms` are what makes up
    the latter, by feature or source: how much less each gives it than the item at place k, the largest first. `change`
    is the smallest change of the request found to bring it in; None: nothing that was tried does.
    """

    item_id: str
    stage: str
    reason: Reason
    title: str = ""
    places: Mapping[str, int] = field(default_factory=dict, hash=False)
    sources: Mapping[str, SourceGap] = field(default_factory=dict, hash=False)
    place_as_candidate: int | None = None
    short_of: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict, hash=False)
    change: Change | None = None

    def to_dict(self, language: Language = "en") -> dict[str, object]:
        """As JSON, the reason in a language and by the key that it has in every one, the change in a language, too."""
        change = self.change
        return {
            **vars(self),
            "reason": self.reason.text(language),
            "reason_key": self.reason.to_dict(),
            "places": dict(self.places),
            "sources": {name: gap._asdict() for name, gap in self.sources.items()},
            "terms": dict(self.terms),
            "change": None if change is None else change.to_dict(language),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Out of what `to_dict` gave, in whatever language."""
        change = told["change"]
        read = {
            "reason": Reason.from_dict(told["reason_key"]),
            "sources": {name: of_json(SourceGap, gap) for name, gap in told["sources"].items()},
            "change": None if change is None else of_json(Change, change),
        }
        found: Self = of_json(cls, {**told, **read})
        return found


class Fix(NamedTuple):
    """Fields of a request that remove what is in an item's way."""

    fields: Mapping[str, object]
    place: int | None = None  # that the item is known to have then, from 1, or at most; None: another stage may lose it


class Finding(NamedTuple):
    """What first stands between an item and an answer, and changes of the request that each remove it."""

    why_not: WhyNot
    fixes: Sequence[Fix] = ()


def finding(stage: str, reason: Reason, *fixes: Fix, **more: Any) -> Finding:
    """A finding on an item that `why_not` names; `more` are fields of WhyNot."""
    return Finding(WhyNot(item_id="", stage=stage, reason=reason, **more), fixes)
