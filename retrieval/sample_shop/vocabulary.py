"""The words of a generated shop: one file for each kind of shop and language."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Category", "ItemWords", "Kind", "Language", "Words", "load_words"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]
Kind = Literal["general", "groceries"]
Language = Literal["en", "zh"]


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category: nouns with a synonym that no title has, traits with their description, sizes, looks.

    `days_of_use` is how long a usual pack lasts, None for what is not used up; `peak_month` is when most is sold, None
    for what sells alike all year.
    """

    name: str
    department: str
    price: float
    days_of_use: float | None
    peak_month: int | None
    goes_with: list[str]
    nouns: dict[str, str]
    traits: dict[str, str]
    sizes: list[str]
    looks: list[str]


class Words(NamedTuple):
    """The vocabulary, and how its brands, categories and departments belong together."""

    language: Language
    series: list[str]
    brands: list[str]
    tiers: Reals  # [n_brands] price level of a brand, -1 cheap to 1 expensive
    categories: list[Category]
    department: Codes  # [n_categories]
    brands_of: Codes  # [n_departments, brands per department]
    goes_with: list[Codes]  # per category: the categories bought with it
    price_step: float  # prices are whole steps less `price_below`, such as 12.49 or 29.9
    price_below: float


@cache
def load_words(kind: Kind = "general", language: Language = "en") -> Words:
    """The vocabulary of a kind of shop in a language, a JSON file that is part of the package."""
    file = resources.files("retrieval.sample_shop").joinpath("words", f"{kind}.{language}.json")
    raw = json.loads(file.read_text("utf-8"))
    categories = [Category(**fields) for fields in raw["categories"]]
    departments = list(dict.fromkeys(category.department for category in categories))
    rows = {category.name: row for row, category in enumerate(categories)}
    return Words(
        language=language,
        series=raw["series"],
        brands=[brand["name"] for brand in raw["brands"]],
        tiers=np.array([brand["tier"] for brand in raw["brands"]]),
        categories=categories,
        department=np.array([departments.index(category.department) for category in categories]),
        brands_of=np.array(
            [[row for row, brand in enumerate(raw["brands"]) if brand["department"] == d] for d in departments]
        ),
        goes_with=[np.array([rows[name] for name in category.goes_with]) for category in categories],
        price_step=raw["price_step"],
        price_below=raw["price_below"],
    )


class ItemWords(NamedTuple):
    """An item's attributes in words."""

    shelf: Category
    brand: str
    series: str
    noun: str
    trait: str
    second_trait: str
    size: str
    look: str
