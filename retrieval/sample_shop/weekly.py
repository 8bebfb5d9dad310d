"""Weekly visits to the grocer's: each shopper's day of the week, staples that run out, and what the season brings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.sample_shop.demand import Crowd, Taste, popularity
from retrieval.sample_shop.event_log import DAY, Event, Visit, log_of_visits
from retrieval.sample_shop.queries import search_words
from retrieval.sample_shop.stock import Shop

__all__ = ["weekly_visits"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

EVENTS_PER_VISIT = 11.4  # mean over seeds, of the default sizes
WEEK = 7
LEAST, MOST = 5, 20  # items of a basket
AHEAD_DAYS = 3.5  # what runs out within these days of a visit is bought at it: until the next one is nearer


@dataclass(kw_only=True)
class _Household:
    """A shopper's rhythm and what is in the pantry; a staple may be replaced by another item."""

    weekday: int
    hour: float
    lasts: dict[int, float]  # staples: item row -> days that one lasts here
    runs_out: dict[int, float]  # whatever was bought: item row -> day


def weekly_visits(rng: np.random.Generator, shop: Shop, crowd: Crowd, season: Reals, events: int) -> list[Event]:
    """About `events` events, shopper by shopper; every shopper has at least one visit.

    `season` is that of `retrieval.sample_shop.demand.seasons`, float64 [days, n_categories].
    """
    grocer = _Grocer(rng=rng, shop=shop, crowd=crowd, season=season)
    return log_of_visits(grocer, rng, events, EVENTS_PER_VISIT, crowd.activity)


@dataclass(frozen=True, kw_only=True)
class _Grocer:
    """Draws the visits of a crowd to a grocer's."""

    rng: np.random.Generator
    shop: Shop
    crowd: Crowd
    season: Reals

    def newcomer(self, shopper: int) -> _Household:
        """A shopper's rhythm and a dozen and a half staples of different categories, few of them seasonal."""
        rng, taste = self.rng, self.crowd.taste(shopper, 0.0)
        seasonal = np.array([category.peak_month is not None for category in self.shop.words.categories])
        wanted = np.where(seasonal, 0.1, 1.0) * (0.2 + taste.categories)
        n = int(rng.integers(12, 20))
        categories = rng.choice(len(wanted), size=n, replace=False, p=wanted / wanted.sum())
        staples = [self.pick(taste, int(category), 0.0) for category in categories]
        pace = rng.lognormal(0.0, 0.15)
        lasts = {item: float(self.shop.days_of_use[item] * pace) for item in staples}
        return _Household(
            weekday=int(rng.integers(WEEK)),
            hour=float(rng.uniform(8.0, 20.0)),
            lasts=lasts,
            runs_out={item: float(rng.uniform(0.0, days)) for item, days in lasts.items()},
        )

    def arrivals(self, n: int, memory: _Household) -> Codes:
        """Seconds of `n` visits, ascending: one a week on the shopper's weekday, a fifth of them on another day."""
        rng, days = self.rng, len(self.season)
        weeks = np.concatenate([rng.permutation(days // WEEK) for _ in range(1 + n // (days // WEEK))])[:n]
        second_trip = np.arange(n) >= days // WEEK
        shifted = second_trip | (rng.random(n) < 0.2)
        weekday = np.where(shifted, rng.integers(WEEK, size=n), memory.weekday)
        hour = (memory.hour + rng.normal(0.0, 0.7, size=n)).clip(6.0, 22.0)
        return np.unique((weeks * WEEK + weekday) * DAY + (hour * 3600).astype(np.int64))

    def next_visit(self, memory: _Household, last: int, planned: int) -> int:
        """As planned."""
        return planned

    def visit(self, visit: Visit, memory: _Household) -> None:
        """One visit: the staples that run out, a few other things, most of them without a look."""
        taste = self.crowd.taste(visit.shopper, visit.day)
        at_home = {item for item, day in memory.runs_out.items() if day > visit.day + AHEAD_DAYS}
        out = sorted(memory.lasts.keys() - at_home, key=memory.runs_out.__getitem__)
        due = [item for item in out if self.rng.random() < 0.92]
        least = LEAST + int(self.rng.poisson(1.0)) - len(due)
        beside = self.for_a_change(taste, visit.day, max(int(self.rng.poisson(2.2)), least), at_home.union(due))
        self.look_around(visit, beside, taste)
        self.check_out(visit, memory, [*due, *beside][:MOST], taste)

    def for_a_change(self, taste: Taste, day: float, n: int, needless: set[int]) -> list[int]:
        """Up to `n` items that are not in `needless`, each once."""
        found: dict[int, None] = {}
        tries = 10 * n  # a small shop may not have as many
        while len(found) < n and (tries := tries - 1):
            item = self.pick(taste, self.category(taste, day), day)
            if item not in needless:
                found[item] = None
        return list(found)

    def category(self, taste: Taste, day: float) -> int:
        """The category of something that is no staple: by season, half of it by taste."""
        wanted = self.season[min(int(day), len(self.season) - 1)] * (1 / len(taste.categories) + taste.categories)
        return int(self.rng.choice(len(wanted), p=wanted / wanted.sum()))

    def pick(self, taste: Taste, category: int, day: float) -> int:
        """An item of a category, by what is popular and by the shopper's price level, brands and look."""
        shop, rows = self.shop, self.shop.of_category[category]
        looks = len(shop.words.categories[category].looks)
        pull = popularity(shop, rows, day) * taste.brands[shop.brand[rows]]
        pull *= np.exp(-1.5 * np.abs(shop.level[rows] - taste.level))
        pull *= np.where(shop.look[rows] == taste.look % looks, 3.0, 1.0)
        return int(self.rng.choice(rows, p=pull / pull.sum()))

    def look_around(self, visit: Visit, bought: list[int], taste: Taste) -> None:
        """Views of some of what is bought for a change, and of things that stay on the shelf; few after a search."""
        rng = self.rng
        left = [self.pick(taste, self.category(taste, visit.day), visit.day) for _ in range(int(rng.poisson(0.8)))]
        for item in dict.fromkeys([*(item for item in bought if rng.random() < 0.3), *left]):
            query = search_words(rng, self.shop, item) if rng.random() < 0.2 else None
            visit.add("view", item, int(rng.integers(10, 90)), query)

    def check_out(self, visit: Visit, memory: _Household, bought: list[int], taste: Taste) -> None:
        """The purchases of one basket at one time; what a staple is may change."""
        visit.second += 60
        for item in bought:
            visit.buy(item, 1 + int(self.rng.poisson(0.4)))
            lasts = memory.lasts.get(item, float(self.shop.days_of_use[item]))
            memory.runs_out[item] = visit.day + lasts * self.rng.normal(1.0, 0.1)
            if item in memory.lasts and self.rng.random() < 0.02:
                self.replace_staple(visit, memory, item, taste)

    def replace_staple(self, visit: Visit, memory: _Household, item: int, taste: Taste) -> None:
        """Another item of the same category from now on, which lasts as long for its size."""
        other = self.pick(taste, int(self.shop.category[item]), visit.day)
        if other in memory.lasts:
            return
        pace = memory.lasts.pop(item) / self.shop.days_of_use[item]
        memory.runs_out[other] = memory.runs_out[item]
        memory.lasts[other] = float(pace * self.shop.days_of_use[other])
