"""A generated shop in the data contract, with invented brands and shoppers. It is no evidence of quality.

A model can learn what the generator put in: a shopper keeps to two or three categories, a price level, a brand per
department and a look; a visit goes from view to click, cart and purchase; consumables are bought again; related items
are bought together; popularity is skewed and drifts, and some items are added late. The relevance of an item to a query
follows the words of its title.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval.errors import BadConfig
from retrieval.sample_shop.queries import judged_tables, search_words
from retrieval.sample_shop.stock import Shop, items_table, load_words, stock

__all__ = ["SampleTables", "sample_tables", "write_sample"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

DAY = 86_400  # seconds
EVENTS_PER_VISIT = 6.0  # mean over seeds, by which the number of visits is chosen
README = """# sample-shop: generated data

Everything here is invented by `shortlist sample` (seed {seed}): brands, products, shoppers, queries and grades.
It shows that the pipeline runs. No figure measured on it says anything about a real shop.
"""


class SampleTables(NamedTuple):
    """The four tables of the data contract."""

    items: pa.Table
    events: pa.Table
    queries: pa.Table
    judgements: pa.Table


def write_sample(
    folder: Path,
    *,
    seed: int = 7,
    items: int = 2_000,
    shoppers: int = 2_500,
    events: int = 40_000,
    queries: int = 300,
    days: int = 90,
    last_day: date = date(2025, 3, 31),
) -> Path:
    """Writes a generated shop as the parquet files of the data contract, with a README; returns `folder`.

    The same arguments give the same tables. The number of events is within a tenth of `events`, the other sizes are
    exact. The last of the `days` is `last_day`, in UTC. Each file is written atomically.

    Raises `BadConfig` where a size is too small for a shop.
    """
    tables = sample_tables(
        seed=seed, items=items, shoppers=shoppers, events=events, queries=queries, days=days, last_day=last_day
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables._asdict().items():
        partial = folder / f".{name}.partial"
        pq.write_table(table, partial)
        partial.replace(folder / f"{name}.parquet")
    (folder / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    return folder


def sample_tables(
    *, seed: int, items: int, shoppers: int, events: int, queries: int, days: int, last_day: date
) -> SampleTables:
    """The tables that `write_sample` writes. Raises `BadConfig` as it does."""
    _refuse_small(items=items, shoppers=shoppers, events=events, queries=queries, days=days)
    rng = np.random.default_rng(seed)
    shop = stock(rng, items, days)
    midnight = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) - timedelta(days=days - 1)
    log = _Log(rng=rng, shop=shop, crowd=_crowd(rng, shoppers), days=days)
    mark = {"shortlist.sample": f"generated shop, seed {seed}; invented brands, products, shoppers and grades"}
    tables = (items_table(rng, shop), _events_table(log, events, midnight), *judged_tables(rng, shop, queries))
    return SampleTables(*(table.replace_schema_metadata(mark) for table in tables))


def _refuse_small(**sizes: int) -> None:
    least = {"items": len(load_words().categories), "days": 14}
    for name, size in sizes.items():
        if size < least.get(name, 1):
            raise BadConfig(f"{name}={size} is too small for a generated shop; give at least {least.get(name, 1)}")


@dataclass(frozen=True, kw_only=True)
class _Crowd:
    """The latent preferences of n shoppers: categories with weights, price level, brand per department, look."""

    categories: Codes  # [n, 3], may repeat
    weights: Reals  # [n, 3]
    level: Reals  # [n]
    brand: Codes  # [n, n_departments]
    look: Codes  # [n]
    activity: Reals  # [n], sums to 1


def _crowd(rng: np.random.Generator, n: int) -> _Crowd:
    words = load_words()
    n_categories, n_departments = len(words.categories), len(words.brands_of)
    popular = (1.0 + rng.permutation(n_categories)) ** -0.5
    first = rng.choice(n_categories, size=n, p=popular / popular.sum())
    second = np.array([rng.choice(words.goes_with[row]) for row in first])
    third = np.where(rng.random(n) < 0.5, second, rng.integers(n_categories, size=n))
    level = rng.normal(0.0, 0.8, size=n)
    liking = -2 * np.abs(level[:, None, None] - words.tiers[words.brands_of])  # [n, n_departments, brands]
    favourite = (liking + rng.gumbel(size=liking.shape)).argmax(axis=2)
    activity = rng.lognormal(0.0, 0.9, size=n)
    return _Crowd(
        categories=np.stack([first, second, third], axis=1),
        weights=rng.dirichlet([6.0, 3.0, 1.5], size=n),
        level=level,
        brand=words.brands_of[np.arange(n_departments), favourite],
        look=rng.integers(60, size=n),
        activity=activity / activity.sum(),
    )


class _Event(NamedTuple):
    second: int  # since the first midnight
    shopper: int
    item: int
    kind: str
    session: int
    query: str | None = None
    basket: int | None = None
    quantity: int | None = None


@dataclass(kw_only=True)
class _Memory:
    """What a shopper carries from visit to visit: the last category, and consumables that will run out."""

    category: int = -1
    runs_out: dict[int, int] = field(default_factory=dict)  # item row -> second


@dataclass(frozen=True, kw_only=True)
class _Log:
    """Generates visits as events."""

    rng: np.random.Generator
    shop: Shop
    crowd: _Crowd
    days: int

    def events(self, wanted: int) -> list[_Event]:
        """About `wanted` events in the order of time; every shopper has at least one visit."""
        rng, n = self.rng, len(self.crowd.level)
        visits = 1 + rng.multinomial(max(0, round(wanted / EVENTS_PER_VISIT) - n), self.crowd.activity)
        log: list[_Event] = []
        session = 0
        for shopper in range(n):
            memory = _Memory()
            for second in self._arrivals(visits[shopper]):
                log.extend(self._visit(shopper, int(second), session, memory))
                session += 1
        return sorted((event for event in log if event.second < self.days * DAY), key=lambda event: event.second)

    def _arrivals(self, n: int) -> Codes:
        """Seconds of `n` visits, ascending: more on weekends, more towards the end, most in the evening."""
        day = np.arange(self.days)
        share = (1 + 0.5 * day / self.days) * np.where(day % 7 >= 5, 1.5, 1.0)
        hour = self.rng.normal(17.5, 3.5, size=n).clip(0, 23.5)
        return np.sort(self.rng.choice(day, size=n, p=share / share.sum()) * DAY + (hour * 3600).astype(np.int64))

    def _visit(self, shopper: int, second: int, session: int, memory: _Memory) -> Iterator[_Event]:
        """The events of one visit: browse a category, buy some items, perhaps with related ones and refills."""
        rng = self.rng
        again = [item for item, due in memory.runs_out.items() if due <= second and rng.random() < 0.8]
        seen: list[int] = []
        if not again or rng.random() < 0.3:
            memory.category = self._category(shopper, memory.category)
            seen = self._browse_category(shopper, memory.category, second, 1 + int(rng.poisson(0.9)))
        query = search_words(rng, self.shop, seen[0]) if seen and rng.random() < 0.35 else None
        cart: list[int] = []
        for item in seen:
            second, steps = self._browse(item, second)
            yield from (_Event(at, shopper, item, kind, session, query) for at, kind in steps)
            cart += [item] * (steps[-1][1] == "cart" and rng.random() < 0.85)
        if cart and rng.random() < 0.5:
            beside = int(rng.choice(load_words().goes_with[self.shop.category[cart[0]]]))
            for item in self._browse_category(shopper, beside, second, 1):
                second += int(rng.integers(20, 120))
                yield _Event(second, shopper, item, "view", session)
                yield _Event(second + 15, shopper, item, "cart", session)
                cart.append(item)
        yield from self._check_out(shopper, again + cart, second + 40, session, memory)

    def _category(self, shopper: int, last: int) -> int:
        """The category of a visit: the last one, a related one, one by preference, or any."""
        rng, crowd, words = self.rng, self.crowd, load_words()
        turn = rng.random()
        if last >= 0 and turn < 0.3:
            return last
        if last >= 0 and turn < 0.45:
            return int(rng.choice(words.goes_with[last]))
        if turn > 0.93:
            return int(rng.integers(len(words.categories)))
        return int(rng.choice(crowd.categories[shopper], p=crowd.weights[shopper]))

    def _browse_category(self, shopper: int, category: int, second: int, n: int) -> list[int]:
        """Up to `n` items of the category that are on sale, drawn by popularity and the shopper's preferences."""
        shop, crowd, day = self.shop, self.crowd, second / DAY
        rows = shop.of_category[category]
        brand = crowd.brand[shopper, load_words().department[category]]
        looks = len(load_words().categories[category].looks)
        pull = shop.appeal[rows] * np.exp(shop.trend[rows] * day / self.days)
        pull *= np.exp(-1.5 * np.abs(shop.level[rows] - crowd.level[shopper]))
        pull *= np.where(shop.brand[rows] == brand, 4.0, 1.0)
        pull *= np.where(shop.look[rows] == crowd.look[shopper] % looks, 3.0, 1.0)
        pull *= shop.first_day[rows] <= day
        n = min(n, int(np.count_nonzero(pull)))
        return [int(row) for row in self.rng.choice(rows, size=n, replace=False, p=pull / pull.sum())]

    def _browse(self, item: int, second: int) -> tuple[int, list[tuple[int, str]]]:
        """The events of one item as (second, kind), and the second at which the shopper moves on."""
        rng = self.rng
        steps = [(second, "view")]
        for kind, chance in (("click", 0.75), ("favourite", 0.12), ("cart", 0.7)):
            if rng.random() < chance:
                second += int(rng.integers(8, 90))
                steps.append((second, kind))
            elif kind == "click":
                break
        return second + int(rng.integers(5, 60)), steps

    def _check_out(
        self, shopper: int, bought: list[int], second: int, session: int, memory: _Memory
    ) -> Iterator[_Event]:
        """The purchases of one basket at one time, and returns; consumables are scheduled to run out weeks later."""
        rng = self.rng
        for item in dict.fromkeys(bought):
            consumable = load_words().categories[self.shop.category[item]].consumable
            quantity = 1 + int(rng.poisson(0.6 if consumable else 0.05))
            yield _Event(second, shopper, item, "purchase", session, None, session, quantity)
            memory.runs_out.pop(item, None)
            if consumable:
                memory.runs_out[item] = second + int(rng.gamma(6.0, 3.0) * DAY)
            elif rng.random() < 0.05:
                back = second + int(rng.uniform(2.0, 14.0) * DAY)
                yield _Event(back, shopper, item, "return", session, None, session, quantity)


def _events_table(log: _Log, wanted: int, midnight: datetime) -> pa.Table:
    """`events.parquet` in the order of time; basket and session ids are the visit's number."""
    events = log.events(wanted)
    shop, first = log.shop, int(midnight.timestamp())
    paid = [None if event.basket is None else float(shop.price[event.item]) for event in events]
    baskets = [None if event.basket is None else f"basket-{event.basket:06d}" for event in events]
    microseconds = [(first + event.second) * 1_000_000 for event in events]
    return pa.table(
        {
            "user_id": [f"shopper-{event.shopper:05d}" for event in events],
            "item_id": [shop.ids[event.item] for event in events],
            "event": [event.kind for event in events],
            "timestamp": pa.array(microseconds, pa.timestamp("us", tz="UTC")),
            "quantity": pa.array([event.quantity for event in events], pa.int32()),
            "price": pa.array(paid, pa.float64()),
            "basket_id": pa.array(baskets, pa.string()),
            "session_id": [f"visit-{event.session:06d}" for event in events],
            "query": pa.array([event.query for event in events], pa.string()),
        }
    )
