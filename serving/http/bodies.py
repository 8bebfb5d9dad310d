"""What callers send, as JSON. Shapes and sizes are checked here; what values mean, where the engine reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, StringConstraints, Tag

from serving.request import DiversityMethod, Request
from serving.texts.catalogue import Language

Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=10_000)]
Whole: TypeAlias = Annotated[int, Strict()]  # no text or truth value is read as a number
Number: TypeAlias = Annotated[float, Strict()]
Truth: TypeAlias = Annotated[bool, Strict()]
Scalar: TypeAlias = Text | Whole | Number | Truth | None
Value: TypeAlias = Scalar | list[Scalar]
ConditionBody: TypeAlias = tuple[Text, Text, Value]
FiltersBody: TypeAlias = Text | list[ConditionBody] | list[list[ConditionBody]]
EventOfHistory: TypeAlias = Id | tuple[Id, Text | None, Text | Whole | Number | None]

HISTORY = "Item ids, oldest first, or [item id, event, time]; stands in for what is known of the user."
SHAPE = ConfigDict(extra="forbid", allow_inf_nan=False)


class Body(BaseModel):
    """A body has no fields but its own."""

    model_config = SHAPE


class _Shown(Body):
    """What every request for items may ask for."""

    k: Whole = Field(10, ge=1, description="How many items.")
    filters: FiltersBody | None = Field(
        None, description="Only items that pass, as text or as a list of [column, operator, value]."
    )
    diversity: Number = Field(0.0, ge=0, le=1, description="How much relevance is given up for unlike items.")
    diversify_by: DiversityMethod = "mmr"
    one_per_group: Truth = Field(True, description="Of the variants of a product the best alone.")
    explain: Truth | Literal["full"] = Field(False, description="Whether hits say why they stand where they do.")
    page: Text | None = Field(None, description="Where the answer is shown; rules may be for some pages.")
    audience: dict[Text, Value] | None = Field(None, description="What is known of the shopper, for rules.")
    rules: Truth = Field(True, description="Whether merchandising rules hold; false needs the scope `admin`.")
    cursor: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        None, description="`next_cursor` of the answer before: what follows it, from the same release."
    )
    language: Language | None = Field(None, description="The language of reasons and `notes`, which it adds.")

    def fields(self) -> dict[str, Any]:
        """The fields that a request of the engine has, those that were given."""
        return self.model_dump(exclude_unset=True, exclude={"cursor", "language", "rules", "item_id", "items"})

    def request(self) -> Request:
        """What the engine is asked. Raises BadRequest for values that are out of range."""
        return Request.of(self.fields())


class _Reranked(_Shown):
    user_id: Id | None = Field(None, description="A shopper.")
    filter_seen: Truth | None = Field(None, description="Whether items that the shopper took are left out.")
    rerank: Truth = Field(True, description="Whether the second stage orders the shortlist.")
    deadline_ms: Number | None = Field(None, gt=0, description="Milliseconds within which an answer is wanted.")


class RecommendBody(_Reranked):
    """A recommendation for a shopper, or for a history."""

    history: list[EventOfHistory] | None = Field(None, description=HISTORY)

    model_config = ConfigDict(**SHAPE, json_schema_extra={"examples": [{"user_id": "u17", "k": 5}]})

    def request(self) -> Request:
        """See _Shown."""
        return Request.of({**self.fields(), "task": "recommend"})


class SearchBody(RecommendBody):
    """A search, personalised where there is a shopper or a history."""

    query: Text = Field(description="What is searched for.")
    spellcheck: Truth = Field(True, description="Whether words that no item has may be corrected.")

    model_config = ConfigDict(**SHAPE, json_schema_extra={"examples": [{"query": "oak desk", "k": 5}]})

    def request(self) -> Request:
        """See _Shown; items that the shopper took are answered unless asked otherwise."""
        return Request.of({"filter_seen": False, **self.fields()})


class SimilarBody(_Shown):
    """Items similar to one."""

    item_id: Id

    model_config = ConfigDict(**SHAPE, json_schema_extra={"examples": [{"item_id": "i12", "k": 5}]})

    def request(self) -> Request:
        """See _Shown."""
        return Request.of({**self.fields(), "task": "similar", "history": [self.item_id]})


class CartBody(_Reranked):
    """Items that complete a cart."""

    items: list[Id] = Field(description="The ids of what is in the cart.")

    model_config = ConfigDict(**SHAPE, json_schema_extra={"examples": [{"items": ["i12", "i40"], "k": 5}]})

    def request(self) -> Request:
        """See _Shown."""
        return Request.of({**self.fields(), "task": "complete_cart", "history": self.items})


class RecommendTask(RecommendBody):
    """A recommendation, named by its task."""

    task: Literal["recommend"]


class SearchTask(SearchBody):
    """A search, named by its task."""

    task: Literal["search"]

    def fields(self) -> dict[str, Any]:
        """See _Shown."""
        return {name: value for name, value in super().fields().items() if name != "task"}


class SimilarTask(SimilarBody):
    """Similar items, named by their task."""

    task: Literal["similar"]


class CartTask(CartBody):
    """The completion of a cart, named by its task."""

    task: Literal["complete_cart"]


AnyTask: TypeAlias = Annotated[RecommendTask | SearchTask | SimilarTask | CartTask, Field(discriminator="task")]


class BatchBody(Body):
    """Several requests, answered together from one release."""

    requests: list[AnyTask] = Field(min_length=1)

    model_config = ConfigDict(
        **SHAPE, json_schema_extra={"examples": [{"requests": [{"task": "recommend", "user_id": "u17"}]}]}
    )


class ExplainBody(Body):
    """A request whose answer says why each item stands where it does."""

    request: AnyTask

    model_config = ConfigDict(
        **SHAPE, json_schema_extra={"examples": [{"request": {"task": "search", "query": "oak desk"}}]}
    )


class WhyNotBody(ExplainBody):
    """A request, and an item that is not among its answer."""

    item_id: Id

    model_config = ConfigDict(
        **SHAPE,
        json_schema_extra={"examples": [{"request": {"task": "search", "query": "oak desk"}, "item_id": "i12"}]},
    )


class EventBody(Body):
    """Something that a shopper did with an item."""

    user_id: Id
    item_id: Id
    event: Id = Field(description="Its kind, as in the data.")
    timestamp: Text | Whole | Number | None = Field(None, description="ISO 8601, or seconds since 1970; absent: now.")
    event_id: Id | None = Field(None, description="An event whose id is kept already is not kept again.")
    quantity: Number | None = None
    price: Number | None = None
    basket_id: Id | None = None
    query: Text | None = Field(None, description="The search that led to it.")
    rating: Number | None = None

    model_config = ConfigDict(
        **SHAPE, json_schema_extra={"examples": [{"user_id": "u17", "item_id": "i12", "event": "cart"}]}
    )


class EventsBody(Body):
    """Several events, all of which are kept or none."""

    events: list[EventBody]


def _one_or_several(body: Any) -> str:
    return "several" if isinstance(body, Mapping) and "events" in body else "one"


AnyEvents: TypeAlias = Annotated[
    Annotated[EventBody, Tag("one")] | Annotated[EventsBody, Tag("several")], Discriminator(_one_or_several)
]


class ItemsBody(Body):
    """New and changed items, with the columns of items.parquet, and the ids of items to delete."""

    upsert: list[dict[Text, Any]] = Field(default_factory=list)
    delete: list[Id] = Field(default_factory=list)

    model_config = ConfigDict(
        **SHAPE, json_schema_extra={"examples": [{"upsert": [{"item_id": "new1", "title": "Oak desk"}]}]}
    )


class RulesBody(Body):
    """Merchandising rules to check."""

    toml: Annotated[str, StringConstraints(max_length=2**20)] = Field(description="A rules file.")

    model_config = ConfigDict(
        **SHAPE, json_schema_extra={"examples": [{"toml": '[[rule]]\nname = "in stock"\nkind = "in_stock"\n'}]}
    )
