"""The catalogue of a generated shop: vocabulary, items and their attributes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "Category",
    "Kind",
    "Shop",
    "Words",
    "below",
    "described",
    "item_words",
    "items_table",
    "load_words",
    "stock",
]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]
Kind = Literal["general", "groceries"]

VOCABULARY: dict[Kind, str] = {"general": "sample_words.json", "groceries": "groceries_words.json"}
SIZE_LASTS = np.array([0.75, 1.0, 1.3, 1.7])  # how long each size lasts, smallest first, in usual packs


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

    series: list[str]
    brands: list[str]
    tiers: Reals  # [n_brands] price level of a brand, -1 cheap to 1 expensive
    categories: list[Category]
    department: Codes  # [n_categories]
    brands_of: Codes  # [n_departments, brands per department]
    goes_with: list[Codes]  # per category: the categories bought with it


@cache
def load_words(kind: Kind = "general") -> Words:
    """The vocabulary of a kind of shop, a JSON file that is part of the package."""
    raw = json.loads(resources.files("retrieval.sample_shop").joinpath(VOCABULARY[kind]).read_text("utf-8"))
    categories = [Category(**fields) for fields in raw["categories"]]
    departments = list(dict.fromkeys(category.department for category in categories))
    rows = {category.name: row for row, category in enumerate(categories)}
    return Words(
        series=raw["series"],
        brands=[brand["name"] for brand in raw["brands"]],
        tiers=np.array([brand["tier"] for brand in raw["brands"]]),
        categories=categories,
        department=np.array([departments.index(category.department) for category in categories]),
        brands_of=np.array(
            [[row for row, brand in enumerate(raw["brands"]) if brand["department"] == d] for d in departments]
        ),
        goes_with=[np.array([rows[name] for name in category.goes_with]) for category in categories],
    )


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Items by attribute codes, each array [n_items]; what follows `level` is in no table."""

    words: Words
    ids: list[str]
    category: Codes
    brand: Codes
    noun: Codes
    trait: Codes
    second_trait: Codes
    size: Codes
    look: Codes
    series: Codes
    price: Reals
    level: Reals  # log price relative to the category's usual price
    appeal: Reals  # popularity outside the item's fashion
    fashion: Reals  # log of how much more popular it is at the height of its fashion
    fashion_day: Reals  # the day of that
    first_day: Codes
    days_of_use: Reals  # how long a pack lasts; NaN for what is not used up
    of_category: list[Codes]  # item rows of each category


def below(rng: np.random.Generator, bounds: Codes) -> Codes:
    """A random code in [0, bound) for each bound."""
    return np.floor(rng.random(bounds.shape) * bounds).astype(np.int64)


def stock(rng: np.random.Generator, n: int, days: int, kind: Kind = "general") -> Shop:
    """A shop of `n` items over all categories; an eighth are added during the first three quarters of `days`."""
    words = load_words(kind)
    category = rng.permutation(np.arange(n) % len(words.categories))
    brand = words.brands_of[words.department[category], rng.integers(words.brands_of.shape[1], size=n)]
    counts = np.array([[len(c.nouns), len(c.traits), len(c.sizes), len(c.looks)] for c in words.categories])[category]
    noun, trait, size, look = below(rng, counts).T
    price, level = _prices(rng, words, category, brand, size)
    of_category = [np.flatnonzero(category == row) for row in range(len(words.categories))]
    first_day = np.where(rng.random(n) < 1 / 8, rng.integers(1, days * 3 // 4, size=n), 0)
    first_day[[rows[0] for rows in of_category]] = 0
    return Shop(
        words=words,
        ids=[f"item-{row:05d}" for row in range(n)],
        category=category,
        brand=brand,
        noun=noun,
        trait=trait,
        second_trait=(trait + 1 + below(rng, counts[:, 1] - 1)) % counts[:, 1],
        size=size,
        look=look,
        series=rng.integers(len(words.series), size=n),
        price=price,
        level=level,
        appeal=np.power(1.0 + rng.permutation(n), -0.7),
        fashion=np.abs(rng.normal(0.0, 2.0, size=n)),
        fashion_day=rng.uniform(0.0, 1.2 * days, size=n),
        first_day=first_day,
        days_of_use=_days_of_use(words)[category] * SIZE_LASTS[size],
        of_category=of_category,
    )


def _days_of_use(words: Words) -> Reals:
    return np.array([np.nan if c.days_of_use is None else c.days_of_use for c in words.categories])


def _prices(rng: np.random.Generator, words: Words, category: Codes, brand: Codes, size: Codes) -> tuple[Reals, Reals]:
    """Prices ending in 49 or 99, and the price level within the category; each float64 [n_items]."""
    level = 0.7 * words.tiers[brand] + 0.35 * (size - 1.5) + rng.normal(0.0, 0.35, size=len(brand))
    usual = np.array([c.price for c in words.categories])[category]
    halves = np.maximum(np.round(2 * usual * np.exp(0.4 * level)), 2)
    return np.round(halves / 2 - 0.01, 2), level


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


def item_words(shop: Shop, row: int) -> ItemWords:
    """The attributes of the item at `row` in words."""
    words = shop.words
    shelf = words.categories[shop.category[row]]
    nouns, traits = list(shelf.nouns), list(shelf.traits)
    return ItemWords(
        shelf=shelf,
        brand=words.brands[shop.brand[row]],
        series=words.series[shop.series[row]],
        noun=nouns[shop.noun[row]],
        trait=traits[shop.trait[row]],
        second_trait=traits[shop.second_trait[row]],
        size=shelf.sizes[shop.size[row]],
        look=shelf.looks[shop.look[row]],
    )


def described(noun: str, *traits: str) -> str:
    """A noun with its traits before or after it, as English has them.

    >>> described("writing desk", "narrow", "with drawers")
    'narrow writing desk with drawers'
    """
    behind = [trait for trait in traits if trait.startswith(("with ", "for "))]
    return " ".join([*(trait for trait in traits if trait not in behind), noun, *behind])


def _headline(text: str) -> str:
    return " ".join(word if word in {"with", "for"} else word[:1].upper() + word[1:] for word in text.split())


def _title(item: ItemWords) -> str:
    return f"{item.brand} {item.series} {_headline(described(item.noun, item.trait))} {item.size}, {item.look}"


def _description(item: ItemWords) -> str:
    first, second = item.shelf.traits[item.trait], item.shelf.traits[item.second_trait]
    return f"{first[:1].upper()}{first[1:]}. {item.second_trait[:1].upper()}{item.second_trait[1:]}: {second}."


def items_table(rng: np.random.Generator, shop: Shop) -> pa.Table:
    """`items.parquet`: one item in twenty has no description, one in twenty is out of stock."""
    n = len(shop.category)
    items = [item_words(shop, row) for row in range(n)]
    bare = rng.random(n) < 0.05
    descriptions = [None if bare[row] else _description(item) for row, item in enumerate(items)]
    return pa.table(
        {
            "item_id": shop.ids,
            "title": [_title(item) for item in items],
            "category": pa.array([[item.shelf.department, item.shelf.name] for item in items], pa.list_(pa.string())),
            "brand": [item.brand for item in items],
            "price": shop.price,
            "description": pa.array(descriptions, pa.string()),
            "in_stock": rng.random(n) < 0.95,
        }
    )
