"""What a rules file may hold: one model for each kind of rule."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

TaskKind: TypeAlias = Literal["recommend", "search", "similar", "complete_cart"]
Value: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr
Moment: TypeAlias = datetime | date
Place: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Texts: TypeAlias = Annotated[tuple[StrictStr, ...], Field(min_length=1)]

STRONGEST = 10.0  # standard deviations: more moves nothing further


class Rule(BaseModel):
    """What every rule has: its name, and when, where and for whom it holds; what is not given holds always.

    `begins` (written `from`) and `until` bound the dates; a date without a time counts whole, and what names no zone is
    in the file's `timezone`. `tasks` and `pages` are those of requests. `audience` is what the request says of the
    shopper, each key with a value or several of which one has to match. `query_is`: the query has the same words, in
    any of their forms; `query_has`: it has all words of one of the texts. `categories`: the request's filters ask for
    one of them alone, or the item that others are to be similar to is in one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    begins: Annotated[Moment | None, Field(alias="from")] = None
    until: Moment | None = None
    tasks: Annotated[tuple[TaskKind, ...], Field(min_length=1)] | None = None
    pages: Texts | None = None
    audience: dict[str, Value | tuple[Value, ...]] | None = None
    query_is: Texts | None = None
    query_has: Texts | None = None
    categories: Texts | None = None


class ItemRule(Rule):
    """A rule about items: those that pass a `filter`, written as requests write it, and those that `items` lists."""

    filter: Annotated[str, Field(min_length=1)] | None = None
    items: Texts | None = None

    @model_validator(mode="after")
    def _names_items(self) -> Self:
        if self.filter is None and self.items is None:
            raise ValueError('names no items; add filter = "brand = Acme" or items = ["item-1"]')
        return self


class Block(ItemRule):
    """These items are never answered."""

    kind: Literal["block"]


class Only(ItemRule):
    """No other items than these are answered."""

    kind: Literal["only"]


class InStock(Rule):
    """Items that are out of stock are never answered: false in a column, or a number of 0 or less there."""

    kind: Literal["in_stock"]
    column: str = "in_stock"


class BoughtBefore(Rule):
    """Items that the shopper bought in the last `days` are not answered, after that they are again; `by_category` has
    other numbers of days for values of `column`."""

    kind: Literal["bought_before"]
    days: Annotated[int, Field(ge=0, strict=True)] | None = None
    by_category: dict[str, Annotated[int, Field(ge=0, strict=True)]] = {}
    column: str = "category"

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if self.days is None and not self.by_category:
            raise ValueError('says nothing; add days = 90 or by_category = { "Coffee" = 14 }')
        return self


class Boost(Rule):
    """These items move up by `strength` standard deviations of relevance within the shortlist; with a number `column`
    in place of items, each item by that times its number's own distance from the shortlist's mean."""

    kind: Literal["boost", "bury"]
    strength: Annotated[float, Field(gt=0, le=STRONGEST)] = 1.0
    filter: Annotated[str, Field(min_length=1)] | None = None
    items: Texts | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _names_items_or_a_column(self) -> Self:
        if (self.column is None) == (self.filter is None and self.items is None):
            raise ValueError("names what moves either by filter and items, or by column; keep one of them")
        return self

    @property
    def signed(self) -> float:
        """`strength`, below 0 where items are buried."""
        return self.strength if self.kind == "boost" else -self.strength


class Cap(Rule):
    """At most `most` items of each value of a column among the first `within` places, by default in the whole answer.

    Of a column that holds lists the last value counts; items without a value are not capped.
    """

    kind: Literal["cap"]
    column: str
    most: Annotated[int, Field(ge=1, strict=True)]
    within: Place | None = None


class Pin(Rule):
    """These items stand at the places from `place` on, in this order."""

    kind: Literal["pin"]
    items: Texts
    place: Place = 1


class Slot(ItemRule):
    """At `place` stands the best of these items that does not stand before."""

    kind: Literal["slot"]
    place: Place


class Floor(ItemRule):
    """At least `least` of these items are among the first `within` places, by default in the whole answer."""

    kind: Literal["floor"]
    least: Annotated[int, Field(ge=1, strict=True)]
    within: Place | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.within is not None and self.least > self.within:
            raise ValueError(f"wants {self.least} items within {self.within} places; lower least or raise within")
        return self


AnyRule: TypeAlias = Block | Only | InStock | BoughtBefore | Boost | Cap | Pin | Slot | Floor


class RulesFile(BaseModel):
    """A whole file: its rules under `[[rule]]`, the name of its `version`, and the zone of dates without one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str | None = None
    timezone: str = "UTC"
    rule: tuple[Annotated[AnyRule, Field(discriminator="kind")], ...] = ()
