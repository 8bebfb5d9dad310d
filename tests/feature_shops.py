"""Small random shops as features read them, and shortlists of requests in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ranking.features.facts import ShopFacts, item_figures
from ranking.features.shortlists import EVENTS, ShopperEvents, Shortlists
from retrieval.data.time_units import DAY, HOUR
from retrieval.data.timeline import Timeline
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR

KINDS = ("add_to_cart", "favourite", "other", "purchase", "return", "view")
TARGETS = ("purchase",)
SOURCES = ("towers", "words", "absent")
PARTS = {"content": slice(0, 3), "identity": slice(3, 5), "linear": slice(5, 7), "bias": slice(7, 8)}
TITLES = (
    "Red mug 4 in",
    "Acme steel drill",
    "Blue mug 3/4 in., 2 pack",
    "Lamp",
    "",
    "Drill bits for steel, red",
    "Mugs",
)
QUERIES = ("", "red mug", "4 in mugs", "acme drill 12", "steel drill bits", "?!", "3/4 in")
NOW = 20_000 * DAY + 11 * HOUR


@dataclass(frozen=True)
class FeatureShop:
    """A shop, and the position in its timeline before which each of its requests stands."""

    facts: ShopFacts
    shortlists: Shortlists
    users: NDArray[np.int64]
    ends: NDArray[np.int64]


def feature_shop(
    seed: int, *, n_items: int = 9, n_events: int = 60, n_users: int = 5, n: int = 7, k: int = 6, dated: bool = True
) -> FeatureShop:
    """Users with up to a few dozen events, of whom some are asked for at a time between two of their events; items
    without a price, a category or a brand; candidates with pads; matrices that lack the newest item."""
    random = np.random.default_rng(seed)
    timeline = random_timeline(random, n_items, n_events, n_users)
    items, (users, ends, now) = random_items(random, n_items), moments(random, timeline, n)
    vectors = random.normal(size=(n_items, 8)).astype(np.float32)
    known = max(n_items - 1, 0)  # the newest item came after the figures and the similarities were made
    facts = ShopFacts(
        items=items,
        analyzer=Analyzer(),
        timeline=timeline,
        targets=TARGETS,
        dated=dated,
        figures=item_figures(*training(random, timeline, known), known),
        sources=SOURCES,
        similarities={name: lambda name=name: similarity(known, len(name)) for name in ("together", "after")},  # type: ignore[misc]
        vectors_at=lambda rows: vectors[rows],
        tower_parts=PARTS,
        items_with=lambda word: items_with(items, word),
    )
    return FeatureShop(facts, shortlists_of(random, timeline, users, ends, now, n_items, k), users, ends)


def shortlists_of(
    random: np.random.Generator,
    timeline: Timeline,
    users: NDArray[np.int64],
    ends: NDArray[np.int64],
    now: NDArray[np.int64],
    n_items: int,
    k: int,
) -> Shortlists:
    """Random candidates with scores, some of them tied."""
    n, k = len(users), min(k, n_items)
    rows = np.array([random.permutation(n_items)[:k] for _ in range(n)], np.int64).reshape(n, k)
    rows[np.arange(k) >= random.integers(1, k + 1, n)[:, None] if k else np.zeros((n, k), bool)] = -1
    queries = [QUERIES[at] for at in random.integers(0, len(QUERIES), n)]
    return Shortlists(
        rows=rows,
        fused=random.normal(size=(n, k)).astype(np.float32),
        scores={name: random.integers(0, 3, (n, k)).astype(np.float32) for name in ("towers", "words")},
        events=ShopperEvents(*timeline.events_before(users, ends, EVENTS)),
        now=now,
        carts=CSR.from_lists([random.integers(0, max(n_items, 1), random.integers(0, 3)) for _ in range(n)]),
        vectors=random.normal(size=(n, 8)).astype(np.float32),
        typed=[text.replace("mug", "mgu") for text in queries],
        corrected=queries,
    )


def random_timeline(random: np.random.Generator, n_items: int, n_events: int, n_users: int) -> Timeline:
    """Events at hours of the last hundred days, some at the same time, some of items that the index lacks."""
    n_events = n_events if n_items else 0
    user = np.sort(random.integers(0, n_users, n_events))
    time = NOW - random.integers(0, 100 * 24, n_events) * HOUR // random.integers(1, 3)
    order = np.lexsort((time, user))
    return Timeline(
        item=random.integers(-1, max(n_items, 1), n_events).astype(np.int32),
        query=np.full(n_events, -1, np.int32),
        kind=random.integers(-1, len(KINDS), n_events).astype(np.int16),
        time=time[order].astype(np.int64),
        offsets=np.searchsorted(user, np.arange(n_users + 1)).astype(np.int64),
        kinds=KINDS,
    )


def random_items(random: np.random.Generator, n_items: int) -> pa.Table:
    """Titles, and categories, brands, prices and descriptions that are absent at times."""

    def maybe(values: Sequence[object]) -> list[object]:
        return [None if random.random() < 0.25 else values[at] for at in random.integers(0, len(values), n_items)]

    return pa.table(
        {
            "title": [TITLES[row % len(TITLES)] for row in range(n_items)],
            "category": pa.array(
                maybe([["Home", "Mugs"], ["Tools"], ["Tools", "Power", "Drills"]]), pa.list_(pa.string())
            ),
            "brand": pa.array(maybe(["Acme", "Two Words", ""]), pa.string()),
            "price": pa.array(maybe([1.0, 2.5, 10.0, 0.0]), pa.float64()),
            "description": pa.array(maybe(["A red mug for steel drills.", "4 in"]), pa.string()),
        }
    )


def moments(
    random: np.random.Generator, timeline: Timeline, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Users, positions in the timeline, and times of n requests: just before the user's next event, or at NOW."""
    users = random.integers(0, len(timeline.offsets) - 1, n)
    ends = random.integers(timeline.offsets[users], timeline.offsets[users + 1] + 1)
    ends = np.where(random.random(n) < 0.3, timeline.offsets[users], ends)
    now = np.append(timeline.time, NOW)[np.where(ends < timeline.offsets[users + 1], ends, -1)]
    return users, ends, now


def training(random: np.random.Generator, timeline: Timeline, known: int) -> tuple[NDArray[np.generic], ...]:
    """Item rows, users, times, ratings and takings of half the events, as `item_figures` reads them."""
    kept = np.flatnonzero((timeline.item >= 0) & (timeline.item < known) & (random.random(len(timeline.item)) < 0.8))
    user = np.repeat(np.arange(len(timeline.offsets) - 1), np.diff(timeline.offsets))
    ratings = np.where(random.random(len(kept)) < 0.5, random.integers(1, 6, len(kept)), np.nan)
    return timeline.item[kept], user[kept], timeline.time[kept], ratings, timeline.kind[kept] == KINDS.index("purchase")


def similarity(n_items: int, seed: int) -> csr_array:
    """A third of the entries, positive."""
    random = np.random.default_rng(seed)
    dense = random.random((n_items, n_items)) * (random.random((n_items, n_items)) < 0.33)
    return csr_array(dense.astype(np.float32))


def items_with(items: pa.Table, word: str) -> int:
    """How many titles have a word of a stem."""
    return sum(word in Analyzer().stems(title) for title in items["title"].to_pylist())


def without_events(shop: FeatureShop) -> FeatureShop:
    """The same requests of nobody known."""
    return replace(shop, shortlists=replace(shop.shortlists, events=ShopperEvents.none(len(shop.shortlists))))
