"""The catalogue of a generated shop: items and their attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.sample_shop.phrases import PHRASES
from retrieval.sample_shop.vocabulary import ItemWords, Kind, Language, Words, load_words

__all__ = ["Shop", "below", "item_words", "items_table", "stock"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

SIZE_LASTS = np.array([0.75, 1.0, 1.3, 1.7])  # how long each size lasts, smallest first, in usual packs


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


def stock(rng: np.random.Generator, n: int, days: int, kind: Kind = "general", language: Language = "en") -> Shop:
    """A shop of `n` items over all categories; an eighth are added during the first three quarters of `days`."""
    words = load_words(kind, language)
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
    """Prices with the usual endings, such as .49 or .99, and the price level within the category; float64 [n_items]."""
    level = 0.7 * words.tiers[brand] + 0.35 * (size - 1.5) + rng.normal(0.0, 0.35, size=len(brand))
    usual = np.array([c.price for c in words.categories])[category]
    steps = np.maximum(np.round(usual * np.exp(0.4 * level) / words.price_step), 1 / words.price_step)
    return np.round(steps * words.price_step - words.price_below, 2), level


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


def items_table(rng: np.random.Generator, shop: Shop) -> pa.Table:
    """`items.parquet`: one item in twenty has no description, one in twenty is out of stock."""
    n, phrases = len(shop.category), PHRASES[shop.words.language]
    items = [item_words(shop, row) for row in range(n)]
    bare = rng.random(n) < 0.05
    descriptions = [None if bare[row] else phrases.description(item) for row, item in enumerate(items)]
    return pa.table(
        {
            "item_id": shop.ids,
            "title": [phrases.title(item) for item in items],
            "category": pa.array([[item.shelf.department, item.shelf.name] for item in items], pa.list_(pa.string())),
            "brand": [item.brand for item in items],
            "price": shop.price,
            "description": pa.array(descriptions, pa.string()),
            "in_stock": rng.random(n) < 0.95,
        }
    )
