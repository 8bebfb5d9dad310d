"""Price, category and brand of items as codes, which text carries badly; unknown values included."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.topk import CSR

PRICE_BINS = 16
MAX_CATEGORIES = 5_000
BRAND = "brand: "  # prefix of brands among the category names
MIN_ITEMS = 3  # items that a category needs to get a code


@dataclass(frozen=True, kw_only=True)
class ItemFeatures:
    """The vocabulary of the codes, fitted on one catalogue and applied to any other.

    `price_edges` are ascending prices in the shop's currency; code 0 is an unknown price, code i a price of at least
    `price_edges[i - 2]`. `categories` are the known names in the order of their codes: categories, and brands prefixed
    by BRAND. An item without any known name has no codes, which the item head reads as zero.
    """

    price_edges: tuple[float, ...]
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, items: pa.Table) -> ItemFeatures:
        """Fits quantile bins of the prices and takes the most frequent categories and brands."""
        prices = _prices(items)
        known = prices[np.isfinite(prices)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, PRICE_BINS + 1)[1:-1])) if len(known) else np.empty(0)
        counts = Counter(_categories(items)[1])
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
        categories = tuple(name for name in frequent if counts[name] >= MIN_ITEMS)
        return cls(price_edges=tuple(edges.tolist()), categories=categories)

    @property
    def n_prices(self) -> int:
        """The number of price codes, the unknown one included."""
        return len(self.price_edges) + 2

    def price_codes(self, items: pa.Table) -> NDArray[np.int64]:
        """The price code of each item, int64 [n]."""
        prices = _prices(items)
        codes = np.searchsorted(np.array(self.price_edges), np.nan_to_num(prices)) + 1
        return np.where(np.isfinite(prices), codes, 0).astype(np.int64)

    def category_codes(self, items: pa.Table) -> CSR:
        """The codes of the known categories and brand of each item, one list per item."""
        owners, names = _categories(items)
        code_of = {name: code for code, name in enumerate(self.categories)}
        codes = np.fromiter((code_of.get(name, -1) for name in names), np.int64, len(names))
        known = codes >= 0
        counts = np.bincount(owners[known], minlength=items.num_rows)
        return CSR(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), codes[known])


def _prices(items: pa.Table) -> NDArray[np.float64]:
    if "price" not in items.column_names:
        return np.full(items.num_rows, np.nan)
    values = items["price"].cast(pa.float64()).to_numpy()
    return np.where(values > 0, values, np.nan) if len(values) else np.empty(0)


def _categories(items: pa.Table) -> tuple[NDArray[np.int64], list[str]]:
    """All distinct (item, name) of categories and brands: item positions int64, ascending, and the names.

    A brand that is also one of the item's categories is listed once.
    """
    pairs = dict.fromkeys(_named(items, "category"))
    pairs |= {(owner, BRAND + name): None for owner, name in _named(items, "brand") if (owner, name) not in pairs}
    ordered = sorted(pairs, key=lambda pair: pair[0])
    return np.array([owner for owner, _ in ordered], np.int64), [name for _, name in ordered]


def _named(items: pa.Table, column: str) -> list[tuple[int, str]]:
    """(item position, name) for a column of names or of lists of names; nulls are left out."""
    if column not in items.column_names:
        return []
    values = items[column].combine_chunks()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        owners = pc.list_parent_indices(values).to_numpy(zero_copy_only=False).astype(np.int64)
        names = pc.list_flatten(values)
    else:
        owners, names = np.arange(len(values)), values
    known = names.is_valid().to_numpy(zero_copy_only=False)
    return list(zip(owners[known].tolist(), names.drop_null().to_pylist(), strict=True))
