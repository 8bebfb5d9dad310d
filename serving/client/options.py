"""What a client's calls may be given, the same as those of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from serving.live.events import EventDetails
from serving.request import Audience, DiversityMethod, Explain, Filters, Given

__all__ = ["CartOptions", "EventDetails", "RecommendOptions", "SearchOptions", "SimilarOptions"]


class SimilarOptions(TypedDict, total=False):
    """See `Engine.similar`."""

    k: int
    filters: Filters | None
    explain: Explain
    diversity: float
    diversify_by: DiversityMethod
    one_per_group: bool
    page: str | None
    audience: Audience | None


class CartOptions(SimilarOptions, total=False):
    """See `Engine.complete_cart`."""

    user_id: str | None
    filter_seen: bool | None
    rerank: bool
    deadline_ms: float | None


class SearchOptions(CartOptions, total=False):
    """See `Engine.search`."""

    history: Sequence[Given] | None
    spellcheck: bool


class RecommendOptions(SearchOptions, total=False):
    """See `Engine.recommend`."""

    query: str | None
