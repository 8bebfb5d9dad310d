"""What callers get, as JSON: the shapes that OpenAPI describes. Answers are the engine's own `to_dict`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ReasonShape(BaseModel):
    """A reason by its key, which is the same in every language, and what it speaks of."""

    key: str
    values: dict[str, str]


class ExplanationShape(BaseModel):
    """Why an item stands where it does, see `serving.Explanation`."""

    reasons: list[str] = Field(description="What may be said to a shopper, the strongest first.")
    reason_keys: list[ReasonShape]
    places: dict[str, int]
    sources: dict[str, dict[str, Any]]
    events: list[dict[str, Any]]
    words: list[dict[str, Any]]
    rules: list[dict[str, Any]]


class HitShape(BaseModel):
    """One answered item, see `serving.Hit`."""

    item_id: str
    title: str
    score: float
    retrieval_rank: int
    sources: list[str]
    contributions: dict[str, float] = {}
    variants: list[str] = []
    explanation: ExplanationShape | None = None
    rules: list[str] = []


class AnswerShape(BaseModel):
    """The items, best first, and how they came about, see `serving.Answer`."""

    items: list[HitShape]
    release: str
    index_revision: int
    fallbacks: list[str]
    degraded: list[str]
    corrected_query: str
    also_searched: str
    reranked: list[str]
    rules: str
    timings_ms: dict[str, float]
    notes: list[str] | None = None
    next_cursor: str | None = Field(description="Send it with the same request for what follows; null: nothing does.")


class AnswersShape(BaseModel):
    """The answer of each request, in their order."""

    answers: list[AnswerShape]


class WhyNotShape(BaseModel):
    """Why an item is not answered, see `serving.WhyNot`."""

    item_id: str
    stage: str
    reason: str
    reason_key: ReasonShape
    title: str
    places: dict[str, int]
    sources: dict[str, dict[str, Any]]
    place_as_candidate: int | None
    short_of: float | None
    terms: dict[str, float]
    change: dict[str, Any] | None


class RecordedShape(BaseModel):
    """How many events were received, and how many of them are new."""

    received: int
    new: int


class ItemsShape(BaseModel):
    """Items with all their attributes."""

    items: list[dict[str, Any]]


class UpdatedShape(BaseModel):
    """What an update of the live index did."""

    release: str
    number: int = Field(description="Counts the updates since the index was built.")
    upserted: int
    new: int
    embedded: int
    deleted: int
    unknown: int = Field(description="Ids to delete that are not in the index.")
    set_aside: int = Field(description="Items that break a rule of the data contract, and were left out.")


class PastEventShape(BaseModel):
    """Something that a shopper did."""

    item_id: str = Field(description="Empty for a search.")
    title: str
    event: str
    time: float = Field(description="Seconds since 1970, UTC.")
    query: str


class UserShape(BaseModel):
    """What a shopper did, newest first."""

    user_id: str
    events: list[PastEventShape]


class UserIdsShape(BaseModel):
    """Ids of shoppers."""

    users: list[str]


class ForgottenShape(BaseModel):
    """What was removed of a shopper, and where something is left, in a line each."""

    removed: list[str]
    left: list[str]


class RulesShape(BaseModel):
    """The rules in force; `error` is what is wrong with their file as it is now."""

    version: str
    file: str
    rules: list[dict[str, Any]]
    error: str


class CheckedRulesShape(BaseModel):
    """What a check of rules found: `faults` for which they would not be used, each with its line."""

    version: str
    rules: list[dict[str, Any]]
    faults: list[str]
    contradictions: list[str]
    warnings: list[str]


class ReleasesShape(BaseModel):
    """Every release, oldest first; the live one, and the one that a roll back makes live."""

    live: str | None
    rollback_to: str | None
    answering: str = Field(description="The release that answers; the live one once it is open.")
    releases: list[dict[str, Any]]
    moves: list[dict[str, Any]] = Field(description="Who made which release live, and when, oldest first.")


class MovedShape(BaseModel):
    """The release that is live now, and the one before."""

    live: str
    before: str | None
    answering: str = Field(description="The release that answers: the live one, unless it cannot be opened.")


class BundleShape(BaseModel):
    """The release that answers: what it is made of, and how good it was found to be."""

    release: str
    created: str
    who: str
    why: str
    index_revision: int
    gates: list[dict[str, Any]] = Field(description="One for each part of the second stage of a task, in words.")
    verdicts: list[str] = Field(description="The gates in a sentence for each task.")
    quality: list[dict[str, Any]] = Field(description="Figures of each task, by stage and by slice.")
    index: dict[str, Any] = Field(description="The kind of the index, and what the tuner measured of others.")
    sources: list[dict[str, Any]] = Field(description="The weight of each source of candidates, by order.")
    features: list[dict[str, Any]] = Field(description="The features that count most for each order.")


class HealthShape(BaseModel):
    """That all is well."""

    status: str


class RecentRequestShape(BaseModel):
    """A request that has ended, without anything of who asked."""

    at: float = Field(description="When it ended, seconds since 1970.")
    task: str
    status: int
    ms: float
    items: int
    degraded: list[str]
    reranked: list[str]
    release: str
    timings_ms: dict[str, float]


class NowShape(BaseModel):
    """The last minute, or as long as the server runs."""

    window_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    degraded: float = Field(description="The share of answers of which something was left out.")
    empty: float = Field(description="The share of answers without an item.")
    recent: list[RecentRequestShape] = Field(description="The last 50 requests, newest first.")
