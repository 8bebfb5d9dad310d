"""What a caller asks and what the engine answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from retrieval.errors import BadRequest
from retrieval.text.rendering import query_text

Seen: TypeAlias = Literal["auto", "remove", "keep"]
Condition: TypeAlias = tuple[str, str, object]  # column, operator, value
Filters: TypeAlias = (
    Sequence[Condition] | Sequence[Sequence[Condition]]
)  # pyarrow's own: all of them; any of such lists


FOREVER = 1e12  # milliseconds


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call. A user, a history (item ids, oldest first) and a query can each be absent; a given history stands in
    for what is known of the user. `seen`: whether items of the history may be answered; `auto` follows the release.
    `filters` over the items' attributes, such as `[("price", "<", 20), ("category", "in", ["Mugs"])]`: nothing else is
    answered, whatever it would be for. `deadline`: milliseconds from the call in which an answer is wanted; no more
    places are reranked than are thought to fit, by what reranking took of late. `correct`: whether words of the query
    that no item has may be taken for others.
    """

    user_id: str | None = None
    history: Sequence[str] | None = None
    query: str | None = None
    k: int = 10
    seen: Seen = "auto"
    rerank: bool = True
    filters: Filters | None = None
    deadline: float | None = None
    correct: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadRequest(f"k is {self.k!r}; ask for 1 item or more")
        for name, value in (("query", self.query), ("user_id", self.user_id)):
            if value is not None and not isinstance(value, str):
                raise BadRequest(f"{name} is {type(value).__name__}; give a string")
        if isinstance(self.history, str) or not all(isinstance(item, str) for item in self.history or ()):
            raise BadRequest("history is not a list of item ids; give a list of strings, oldest first")
        if self.seen not in ("auto", "remove", "keep"):
            raise BadRequest(f"seen is {self.seen!r}; use auto, remove or keep")
        if self.deadline is not None and not _is_time(self.deadline):
            raise BadRequest(f"deadline is {self.deadline!r}; give milliseconds above 0, or None")

    @property
    def text(self) -> str:
        """The query as models read it; empty where nothing is asked for."""
        return query_text((self.query or "").encode("utf-8", "replace").decode("utf-8"))


@dataclass(frozen=True)
class Hit:
    """One answered item.

    `score` never rises from place to place of a reranked answer. Of an item that was reranked it is the logit of the
    last cross-encoder that read it, blended with the score before if the release has a blend, under the model's
    activation: with a blend the chance that it is what is wanted, without one what `CrossEncoder.predict` gives. Of any
    other it is the inner product of the towers' vectors, or the weighted sum of several sources' scores if the release
    has a fusion (of popular items alone: how often they were taken). These are scales of their own, so behind items
    that a later model or any model read a score is capped by that of the place before, and what a search names by its
    id has at least the score of what follows. `retrieval_rank` is the place before reranking, from 1; `sources` are
    those that proposed it.
    """

    item_id: str
    title: str
    score: float
    retrieval_rank: int
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The items, best first, and how they came about: from one release, after so many updates of its index."""

    items: tuple[Hit, ...]
    release: str
    fell_back_to: tuple[str, ...] = ()  # what stood in for what was missing, such as "popular items"
    reranked: bool = False
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage
    update: int = 0
    degraded: tuple[str, ...] = ()  # what the deadline cut, such as "rerank, full model: 12 of 30 places"
    searched_for: str = ""  # the query as it was read, where that is not as it was typed

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "items": [{**vars(hit), "sources": list(hit.sources)} for hit in self.items],
            "release": self.release,
            "update": self.update,
            "fell_back_to": list(self.fell_back_to),
            "degraded": list(self.degraded),
            "searched_for": self.searched_for,
            "reranked": self.reranked,
            "milliseconds": self.milliseconds,
        }


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < FOREVER
