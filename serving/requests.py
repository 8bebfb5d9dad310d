"""What a caller asks and what the engine answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from retrieval.errors import BadRequest

Seen: TypeAlias = Literal["auto", "remove", "keep"]
MAX_K = 1_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call. A user, a history (item ids, oldest first) and a query can each be absent; a given history stands in
    for what is known of the user. `seen`: whether items of the history may be answered; `auto` follows the release.
    """

    user_id: str | None = None
    history: Sequence[str] | None = None
    query: str | None = None
    k: int = 10
    seen: Seen = "auto"
    rerank: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 0 < self.k <= MAX_K:
            raise BadRequest(f"k is {self.k!r}; ask for 1 to {MAX_K} items")
        if isinstance(self.history, str):
            raise BadRequest("history is one string; give a list of item ids")
        if self.query is not None and not isinstance(self.query, str):
            raise BadRequest(f"query is {type(self.query).__name__}; give a string")
        if self.seen not in ("auto", "remove", "keep"):
            raise BadRequest(f"seen is {self.seen!r}; use auto, remove or keep")


@dataclass(frozen=True)
class Hit:
    """One answered item. `score` orders the answer: the cross-encoder's logit where the item was reranked, else the
    tower's inner product; `retrieval_rank` is its place before reranking, from 1."""

    item_id: str
    title: str
    score: float
    retrieval_rank: int


@dataclass(frozen=True)
class Answer:
    """The items, best first, and how they came about."""

    items: tuple[Hit, ...]
    release: str
    fell_back_to: tuple[str, ...] = ()  # what stood in for what was missing, such as "popular items"
    reranked: bool = False
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "items": [vars(hit) for hit in self.items],
            "release": self.release,
            "fell_back_to": list(self.fell_back_to),
            "reranked": self.reranked,
            "milliseconds": self.milliseconds,
        }
