"""Generated shops in the data contract, with invented brands and shoppers. They are no evidence of quality.

A model can learn what the generator put in. In the general shop most of what is looked at is not bought, carts are left
and some are bought later, lasting goods are bought once and what is used up again and again, what goes together is
bought together. At the grocer's each shopper comes on one day of the week for staples, each of which lasts its time. In
both, tastes (categories, brands, price level) change over the months, categories have seasons and items fashions,
popularity is skewed, and some items are added late. The relevance of an item to a query follows the words of its title.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import BadConfig
from retrieval.sample_shop.demand import crowd, seasons
from retrieval.sample_shop.event_log import Event, events_table
from retrieval.sample_shop.queries import judged_tables
from retrieval.sample_shop.stock import items_table, stock
from retrieval.sample_shop.visits import general_visits
from retrieval.sample_shop.vocabulary import Kind, Language, load_words
from retrieval.sample_shop.weekly import weekly_visits

__all__ = ["SampleTables", "sample_language", "sample_tables", "write_sample"]

README = """# sample-shop: generated data

Everything here is invented by `shortlist sample {options}`: brands, products, shoppers, queries and
grades.
It shows that the pipeline runs. No figure measured on it says anything about a real shop.
"""
LANGUAGE_MARK = "shortlist.sample.language"  # of a parquet file's metadata, where the shop is not in English


class SampleTables(NamedTuple):
    """The four tables of the data contract."""

    items: pa.Table
    events: pa.Table
    queries: pa.Table
    judgements: pa.Table


class _Sizes(NamedTuple):
    items: int
    shoppers: int
    events: int
    queries: int


SIZES: dict[Kind, _Sizes] = {
    "general": _Sizes(items=2_000, shoppers=1_200, events=40_000, queries=300),
    "groceries": _Sizes(items=600, shoppers=250, events=50_000, queries=200),
}
VISITS: dict[Kind, Callable[..., list[Event]]] = {"general": general_visits, "groceries": weekly_visits}


def write_sample(
    folder: Path,
    *,
    kind: Kind = "general",
    language: Language = "en",
    seed: int = 7,
    items: int | None = None,
    shoppers: int | None = None,
    events: int | None = None,
    queries: int | None = None,
    days: int = 180,
    last_day: date = date(2025, 3, 31),
) -> Path:
    """Writes a generated shop as the parquet files of the data contract, with a README; returns `folder`.

    Titles, descriptions and queries are in `language`: en, or zh for Chinese with prices in yuan. The same arguments
    give the same tables; a size that is not given is that of `SIZES`. The number of events is within a tenth of
    `events`, the other sizes are exact. The last of the `days` is `last_day`, in UTC. Each file is written atomically.

    Raises `BadConfig` where a size is too small for a shop.
    """
    given = {"items": items, "shoppers": shoppers, "events": events, "queries": queries}
    sizes = SIZES[kind]._replace(**{name: size for name, size in given.items() if size is not None})
    tables = sample_tables(kind=kind, language=language, seed=seed, days=days, last_day=last_day, **sizes._asdict())
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables._asdict().items():
        partial = folder / f".{name}.partial"
        pq.write_table(table, partial)
        partial.replace(folder / f"{name}.parquet")
    options = f"--kind {kind}{'' if language == 'en' else f' --language {language}'} --seed {seed}"
    (folder / "README.md").write_text(README.format(options=options), encoding="utf-8")
    return folder


def sample_language(folder: Path) -> str:
    """The language of the generated shop that `write_sample` wrote to a folder."""
    metadata = pq.read_schema(folder / "items.parquet").metadata or {}
    return str(metadata.get(LANGUAGE_MARK.encode(), b"en").decode())


def sample_tables(
    *,
    kind: Kind = "general",
    language: Language = "en",
    seed: int,
    items: int,
    shoppers: int,
    events: int,
    queries: int,
    days: int,
    last_day: date,
) -> SampleTables:
    """The tables that `write_sample` writes. Raises `BadConfig` as it does."""
    _refuse_small(kind, items=items, shoppers=shoppers, events=events, queries=queries, days=days)
    rng = np.random.default_rng(seed)
    shop = stock(rng, items, days, kind, language)
    first = last_day - timedelta(days=days - 1)
    people = crowd(rng, shop.words, shoppers, days)
    log = VISITS[kind](rng, shop, people, seasons(shop.words, first, days), events)
    midnight = datetime(first.year, first.month, first.day, tzinfo=UTC)
    mark: dict[str, str] = {} if language == "en" else {LANGUAGE_MARK: language}
    mark |= {"shortlist.sample": f"generated shop, seed {seed}; invented brands, products, shoppers and grades"}
    tables = (items_table(rng, shop), events_table(log, shop, midnight, days), *judged_tables(rng, shop, queries))
    return SampleTables(*(table.replace_schema_metadata(mark) for table in tables))


def _refuse_small(kind: Kind, **sizes: int) -> None:
    least = {"items": len(load_words(kind).categories), "days": 14}
    for name, size in sizes.items():
        if size < least.get(name, 1):
            raise BadConfig(f"{name}={size} is too small for a generated shop; give at least {least.get(name, 1)}")
