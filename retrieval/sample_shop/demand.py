"""What shoppers of a generated shop want at which time: seasons of categories, fashions of items, drifting tastes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.sample_shop.stock import Shop
from retrieval.sample_shop.vocabulary import Words

__all__ = ["Crowd", "Taste", "crowd", "popularity", "seasons"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

YEAR, MONTH = 365.25, 30.44  # days
SEASON = 1.4  # log of how much more a seasonal category sells in its month than in the middle of the year
FASHION_DAYS = 14.0  # standard deviation of an item's fashion
CHANGE_DAYS = 10.0  # scale of the logistic change from a shopper's first taste to the second


def popularity(shop: Shop, rows: Codes, day: float) -> Reals:
    """How much the items at `rows` are wanted on a day, 0 before they are on sale; float64 [n_rows]."""
    height = np.exp(-0.5 * ((day - shop.fashion_day[rows]) / FASHION_DAYS) ** 2)
    wanted: Reals = shop.appeal[rows] * np.exp(shop.fashion[rows] * height) * (shop.first_day[rows] <= day)
    return wanted


def seasons(words: Words, first: date, days: int) -> Reals:
    """How much each category is wanted on each day, 1 for what has no season; float64 [days, n_categories]."""
    of_year = np.array([(first + timedelta(days=day)).timetuple().tm_yday for day in range(days)])
    peak = np.array([np.nan if c.peak_month is None else (c.peak_month - 0.5) * MONTH for c in words.categories])
    wave = np.cos(2 * np.pi * (of_year[:, None] - peak) / YEAR)
    factors: Reals = np.exp(SEASON * np.nan_to_num(wave))
    return factors


class Taste(NamedTuple):
    """What one shopper likes on one day."""

    categories: Reals  # [n_categories], sums to 1
    brands: Reals  # [n_brands] factor of each brand's items
    level: float  # log price, as `Shop.level`
    look: int  # to be taken modulo the number of a category's looks


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The tastes of n shoppers, who change from a first (column 0) to a second (column 1) around the day `turn`."""

    categories: Reals  # [n, 2, n_categories], sums to 1
    brands: Reals  # [n, 2, n_brands] factor of each brand's items: a favourite in each department
    level: Reals  # [n, 2]
    look: Codes  # [n]
    turn: Reals  # [n]
    activity: Reals  # [n], sums to 1
    loyalty: Reals  # [n] probability that what is used up is bought again

    def taste(self, shopper: int, day: float) -> Taste:
        """The taste of a shopper on a day."""
        later = 1 / (1 + np.exp((self.turn[shopper] - day) / CHANGE_DAYS))
        share = np.array([1 - later, later])
        return Taste(
            categories=share @ self.categories[shopper],
            brands=share @ self.brands[shopper],
            level=float(share @ self.level[shopper]),
            look=int(self.look[shopper]),
        )


def crowd(rng: np.random.Generator, words: Words, n: int, days: int) -> Crowd:
    """`n` shoppers: each likes three categories, most of them related, and a brand per department at their price."""
    level = rng.normal(0.0, 0.8, size=n)
    levels = np.stack([level, level + rng.normal(0.0, 0.4, size=n)], axis=1)
    activity = rng.lognormal(0.0, 0.9, size=n)
    return Crowd(
        categories=_liked_categories(rng, words, n),
        brands=np.stack([_liked_brands(rng, words, levels[:, phase]) for phase in (0, 1)], axis=1),
        level=levels,
        look=rng.integers(60, size=n),
        turn=rng.uniform(0.2, 1.1, size=n) * days,
        activity=activity / activity.sum(),
        loyalty=rng.beta(8.0, 2.0, size=n),
    )


def _liked_categories(rng: np.random.Generator, words: Words, n: int) -> Reals:
    """The weights of the categories, float64 [n, 2, n_categories]: a first, a related one, and one more.

    The second taste begins with what is related to the first, or with any.
    """
    many = len(words.categories)
    used_up = np.array([category.days_of_use is not None for category in words.categories])
    popular = (1.0 + rng.permutation(many)) ** -0.5 * np.where(used_up, 3.0, 1.0)
    first = rng.choice(many, size=n, p=popular / popular.sum())
    weights = np.zeros((n, 2, many))
    for phase in (0, 1):
        related = np.array([rng.choice(words.goes_with[row]) for row in first])
        other = np.where(rng.random(n) < 0.5, related, rng.integers(many, size=n))
        liked = np.stack([first, related, other], axis=1)
        shares = rng.dirichlet([6.0, 3.0, 1.5], size=n)
        for place in range(3):  # one after another: they may be the same
            weights[np.arange(n), phase, liked[:, place]] += shares[:, place]
        first = np.where(rng.random(n) < 0.5, related, rng.choice(many, size=n, p=popular / popular.sum()))
    return weights


def _liked_brands(rng: np.random.Generator, words: Words, level: Reals) -> Reals:
    """4 for the favourite brand of each department, near the price level, else 1; float64 [n, n_brands]."""
    liking = -2 * np.abs(level[:, None, None] - words.tiers[words.brands_of])  # [n, n_departments, brands]
    favourite = (liking + rng.gumbel(size=liking.shape)).argmax(axis=2)
    factors = np.ones((len(level), len(words.brands)))
    factors[np.arange(len(level))[:, None], words.brands_of[np.arange(len(words.brands_of)), favourite]] = 4.0
    return factors
