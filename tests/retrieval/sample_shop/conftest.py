"""Both kinds of generated shop, half a year long."""

from __future__ import annotations

from datetime import date

import pytest

from retrieval.sample_shop.write import SampleTables, sample_tables

LAST_DAY = date(2025, 3, 31)


@pytest.fixture(scope="session")
def shop() -> SampleTables:
    return sample_tables(seed=7, items=600, shoppers=300, events=12_000, queries=120, days=180, last_day=LAST_DAY)


@pytest.fixture(scope="session")
def grocer() -> SampleTables:
    return sample_tables(
        kind="groceries", seed=7, items=310, shoppers=60, events=12_000, queries=40, days=180, last_day=LAST_DAY
    )
