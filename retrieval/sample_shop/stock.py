"""The catalogue of the generated shop: vocabulary, items and their attributes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Category", "Shop", "Words", "below", "described", "item_words", "items_table", "load_words", "stock"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category: nouns with a synonym that only queries use, traits with their description, sizes, looks."""

    name: str
    department: str
    price: float
    consumable: bool
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
def load_words() -> Words:
    """The vocabulary of `sample_words.json`, which is part of the package."""
    raw = json.loads(resources.files("retrieval.sample_shop").joinpath("sample_words.json").read_text("utf-8"))
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
    """Items by attribute codes, each array [n_items]; `appeal`, `trend` and `first_day` are in no table."""

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
    appeal: Reals
    trend: Reals  # above 0: rises over the days
    first_day: Codes
    of_category: list[Codes]  # item rows of each category


def below(rng: np.random.Generator, bounds: Codes) -> Codes:
    """A random code in [0, bound) for each bound."""
    return np.floor(rng.random(bounds.shape) * bounds).astype(np.int64)


def stock(rng: np.random.Generator, n: int, days: int) -> Shop:
    """A shop of `n` items over all categories; an eighth are added during the first three quarters of `days`."""
    words = load_words()
    category = rng.permutation(np.arange(n) % len(words.categories))
    brand = words.brands_of[words.department[category], rng.integers(words.brands_of.shape[1], size=n)]
    counts = np.array([[len(c.nouns), len(c.traits), len(c.sizes), len(c.looks)] for c in words.categories])[category]
    noun, trait, size, look = below(rng, counts).T
    price, level = _prices(rng, category, brand, size)
    of_category = [np.flatnonzero(category == row) for row in range(len(words.categories))]
    first_day = np.where(rng.random(n) < 1 / 8, rng.integers(1, days * 3 // 4, size=n), 0)
    first_day[[rows[0] for rows in of_category]] = 0
    return Shop(
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
        trend=rng.normal(0.0, 0.8, size=n),
        first_day=first_day,
        of_category=of_category,
    )


def _prices(rng: np.random.Generator, category: Codes, brand: Codes, size: Codes) -> tuple[Reals, Reals]:
    """Prices ending in 49 or 99, and the price level within the category; each float64 [n_items]."""
    words = load_words()
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
    words = load_words()
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
