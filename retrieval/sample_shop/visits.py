"""Visits to the general shop: what shoppers look at, put into the cart, leave there, buy, buy again and send back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retrieval.sample_shop.demand import Crowd, Taste, popularity
from retrieval.sample_shop.event_log import DAY, Event, Visit, log_of_visits
from retrieval.sample_shop.queries import search_words
from retrieval.sample_shop.stock import Shop

__all__ = ["general_visits"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

EVENTS_PER_VISIT = 6.7  # mean over seeds, of the default sizes
EARLY_DAYS = 2.0  # how long before it runs out a thing is bought again, by who is there anyway
CART_DAYS = 21  # how long a cart is remembered
REMEMBERED = 12  # items looked at that a shopper keeps in mind


@dataclass(kw_only=True)
class _Memory:
    """What a shopper carries from visit to visit; times are seconds."""

    category: int = -1
    looked_at: list[int] = field(default_factory=list)  # newest last
    cart: dict[int, int] = field(default_factory=dict)  # left there: item row -> when it was put there
    runs_out: dict[int, int] = field(default_factory=dict)  # item row -> when
    owned: set[int] = field(default_factory=set)  # lasting goods
    has_a: set[tuple[int, int]] = field(default_factory=set)  # category and noun of lasting goods
    plans: list[int] = field(default_factory=list)  # when to come back, at the latest


@dataclass(kw_only=True)
class _Chosen:
    """What a shopper means to buy in this visit: what is in the cart, and what goes to the till without it."""

    cart: list[int] = field(default_factory=list)
    at_once: list[int] = field(default_factory=list)


def general_visits(rng: np.random.Generator, shop: Shop, crowd: Crowd, season: Reals, events: int) -> list[Event]:
    """About `events` events, shopper by shopper; every shopper has at least one visit.

    `season` is that of `retrieval.sample_shop.demand.seasons`, float64 [days, n_categories].
    """
    visitors = _Visitors(rng=rng, shop=shop, crowd=crowd, season=season)
    return log_of_visits(visitors, rng, events, EVENTS_PER_VISIT, crowd.activity)


@dataclass(frozen=True, kw_only=True)
class _Visitors:
    """Draws the visits of a crowd to a shop."""

    rng: np.random.Generator
    shop: Shop
    crowd: Crowd
    season: Reals

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def newcomer(self, shopper: int) -> _Memory:
        """Nobody remembers anything before the first visit."""
        return _Memory()

    def arrivals(self, n: int, memory: _Memory) -> Codes:
        """Seconds of `n` visits, ascending: more on weekends, more towards the end, most in the evening."""
        day = np.arange(len(self.season))
        share = (1 + 1.2 * day / len(day)) * np.where(day % 7 >= 5, 1.5, 1.0)
        hour = self.rng.normal(17.5, 3.5, size=n).clip(0, 23.5)
        return np.sort(self.rng.choice(day, size=n, p=share / share.sum()) * DAY + (hour * 3600).astype(np.int64))

    def next_visit(self, memory: _Memory, last: int, planned: int) -> int:
        """The second of the next visit: as planned, or earlier where something runs out or waits in the cart."""
        memory.plans = [second for second in memory.plans if second > last + DAY // 4]
        return max(min([planned, *memory.plans]), last + DAY // 4)

    def visit(self, visit: Visit, memory: _Memory) -> None:
        """One visit: look around unless only to refill, then buy what ran out, waited in the cart or was put there."""
        taste = self.crowd.taste(visit.shopper, visit.day)
        again = self.run_out(visit, memory)
        resumed = self.back_to_the_cart(visit, memory)
        chosen = _Chosen()
        if not again or self.chance(0.4):
            memory.category = self.category(taste, visit.day, memory.category)
            self.look_around(visit, memory, taste, chosen)
            if chosen.cart and self.chance(0.4):
                self.goes_with(visit, memory, taste, chosen)
        memory.cart.update(dict.fromkeys(chosen.cart, visit.second))
        if again or resumed or chosen.at_once or self.chance(0.6):
            taken = [item for item in chosen.cart if self.chance(0.7)]
            self.check_out(visit, memory, list(dict.fromkeys([*again, *resumed, *chosen.at_once, *taken])))
        if memory.cart and self.chance(0.4):
            memory.plans.append(visit.second + int(self.rng.uniform(0.5, 4.0) * DAY))

    def run_out(self, visit: Visit, memory: _Memory) -> list[int]:
        """What ran out, or soon will, and is bought again now; what ran out long ago is forgotten."""
        soon = visit.second + EARLY_DAYS * DAY
        due = [item for item, second in memory.runs_out.items() if second <= soon]
        again = [item for item in due if visit.second - memory.runs_out[item] < self.late(item)]
        for item in due:
            del memory.runs_out[item]
        return [item for item in again if self.chance(0.95)]

    def late(self, item: int) -> float:
        """How many seconds after it ran out a thing is replaced by the same one."""
        return 0.4 * float(self.shop.days_of_use[item]) * DAY

    def back_to_the_cart(self, visit: Visit, memory: _Memory) -> list[int]:
        """What was left in the cart and is bought now, half of it after another look; some of the rest is dropped."""
        resumed: list[int] = []
        for item, second in list(memory.cart.items()):
            turn = self.rng.random()
            if visit.second - second > CART_DAYS * DAY or turn > 0.75:
                del memory.cart[item]
            elif turn < 0.45:
                resumed.append(item)
                if self.chance(0.5):
                    visit.add("view", item, int(self.rng.integers(5, 60)))
        return resumed

    def category(self, taste: Taste, day: float, last: int) -> int:
        """The category of a visit: the last one, a related one, any, or one by taste; all by season."""
        rng, words = self.rng, self.shop.words
        season = self.season[min(int(day), len(self.season) - 1)]
        turn = rng.random()
        if last >= 0 and turn < 0.3:
            return last
        if last >= 0 and turn < 0.4:
            return int(rng.choice(words.goes_with[last]))
        wanted = season if turn > 0.9 else season * taste.categories
        return int(rng.choice(len(wanted), p=wanted / wanted.sum()))

    def look_around(self, visit: Visit, memory: _Memory, taste: Taste, chosen: _Chosen) -> None:
        """Look at some items of the memory's category, perhaps after a search; the best liked may be chosen."""
        seen, pull = self.drawn(visit, memory, taste, memory.category, 1 + int(self.rng.poisson(2.2)))
        query = search_words(self.rng, self.shop, seen[0]) if seen and self.chance(0.35) else None
        best = seen[int(np.argmax(pull))] if seen else -1
        for item in seen:
            self.look_at(visit, item, query, chosen, liked=item == best)
        kept_in_mind = [item for item in seen if item not in {*chosen.cart, *chosen.at_once}]
        memory.looked_at = [*memory.looked_at, *kept_in_mind][-REMEMBERED:]

    def look_at(self, visit: Visit, item: int, query: str | None, chosen: _Chosen, *, liked: bool) -> None:
        """Look at an item, a little or long; perhaps put it into the cart, or mean to buy it at once."""
        rng = self.rng
        visit.add("view", item, int(rng.integers(5, 60)), query)
        if not self.chance(0.85 if liked else 0.5):
            return
        visit.add("click", item, int(rng.integers(5, 60)), query)
        if self.chance(0.2 if liked else 0.08):
            visit.add("favourite", item, int(rng.integers(5, 60)), query)
        if liked and self.chance(0.25):
            chosen.at_once.append(item)
        elif self.chance(0.65 if liked else 0.2):
            visit.add("cart", item, int(rng.integers(8, 90)), query)
            chosen.cart.append(item)

    def goes_with(self, visit: Visit, memory: _Memory, taste: Taste, chosen: _Chosen) -> None:
        """One thing that goes with the first of the cart: looked at, or just taken along."""
        beside = int(self.rng.choice(self.shop.words.goes_with[self.shop.category[chosen.cart[0]]]))
        found, _ = self.drawn(visit, memory, taste, beside, 1)
        if self.chance(0.4):
            chosen.at_once.extend(found)
            return
        for item in found:
            visit.add("view", item, int(self.rng.integers(20, 120)))
            if self.chance(0.75):
                visit.add("cart", item, 15)
                chosen.cart.append(item)

    def drawn(self, visit: Visit, memory: _Memory, taste: Taste, category: int, n: int) -> tuple[list[int], Reals]:
        """Up to `n` items of a category that the shopper looks at, and how much each is liked, float64 [n].

        What was bought is not looked at again: lasting goods ever, others before they run out. Who has bought a desk
        hardly looks at desks; who has looked at one without buying comes back to it.
        """
        rows = self.shop.of_category[category]
        pull = popularity(self.shop, rows, visit.day) * self.liking(taste, rows)
        nouns = [noun for of, noun in memory.has_a if of == category]
        pull *= np.where(np.isin(self.shop.noun[rows], nouns), 0.1, 1.0) if nouns else 1.0
        pull *= self.remembered(memory)[rows]
        n = min(n, int(np.count_nonzero(pull)))
        if not n:
            return [], np.empty(0)
        places = self.rng.choice(len(rows), size=n, replace=False, p=pull / pull.sum())
        return rows[places].tolist(), pull[places]

    def remembered(self, memory: _Memory) -> Reals:
        """How much the memory of an item speaks for looking at it, float64 [n_items]."""
        factor = np.ones(len(self.shop.ids))
        factor[memory.looked_at] = 6.0
        factor[[*memory.owned, *memory.runs_out, *memory.cart]] = 0.0
        return factor

    def liking(self, taste: Taste, rows: Codes) -> Reals:
        """How much a shopper's price level, brands and look speak for items, float64 [n_rows]."""
        shop = self.shop
        looks = len(shop.words.categories[shop.category[rows[0]]].looks)
        near: Reals = np.exp(-1.5 * np.abs(shop.level[rows] - taste.level)) * taste.brands[shop.brand[rows]]
        return near * np.where(shop.look[rows] == taste.look % looks, 3.0, 1.0)

    def check_out(self, visit: Visit, memory: _Memory, bought: Sequence[int]) -> None:
        """The purchases of one basket at one time; few lasting goods are sent back days later."""
        visit.second += 40
        for item in bought:
            if self.has_enough(memory, item):
                continue
            memory.cart.pop(item, None)
            used_up = not np.isnan(self.shop.days_of_use[item])
            quantity = 1 + int(self.rng.poisson(0.3 if used_up else 0.05))
            visit.buy(item, quantity)
            if used_up:
                self.plan_refill(visit, memory, item)
                continue
            memory.owned.add(item)
            memory.has_a.add(self.noun(item))
            if self.chance(0.05):
                visit.send_back(item, quantity, visit.second + int(self.rng.uniform(2.0, 14.0) * DAY))

    def has_enough(self, memory: _Memory, item: int) -> bool:
        """Whether a shopper thinks better of it: few buy a second desk, not even of another make."""
        return self.noun(item) in memory.has_a and self.chance(0.8)

    def noun(self, item: int) -> tuple[int, int]:
        return int(self.shop.category[item]), int(self.shop.noun[item])

    def plan_refill(self, visit: Visit, memory: _Memory, item: int) -> None:
        """When a thing runs out, if it is to be the same again; most then come for it."""
        if not self.chance(self.crowd.loyalty[visit.shopper]):
            return
        lasts = self.shop.days_of_use[item] * self.rng.normal(1.0, 0.12)
        memory.runs_out[item] = visit.second + int(max(lasts, 1.0) * DAY)
        if self.chance(0.8):
            memory.plans.append(memory.runs_out[item])
