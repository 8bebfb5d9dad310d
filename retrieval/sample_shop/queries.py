"""Queries of the generated shop, as its visitors type them, and graded judgements of what they find."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.sample_shop.stock import Shop, described, item_words
from retrieval.text.typos import misspelt

__all__ = ["judged_tables", "search_words"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

SPLIT_SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
ASKED = {"trait": 0.6, "size": 0.3, "look": 0.25, "brand": 0.15}  # how often a query names each attribute


class _Wish(NamedTuple):
    """An item that a query has in mind, and which of its attributes the query names besides the noun."""

    row: int
    named: frozenset[str]


def search_words(rng: np.random.Generator, shop: Shop, row: int) -> str:
    """What someone types who looks for an item like the one at `row`; one query in eight is misspelt."""
    text = _phrase(rng, shop, _wish(rng, row))
    return misspelt(text, rng, always=True) if rng.random() < 1 / 8 else text


def _wish(rng: np.random.Generator, row: int) -> _Wish:
    return _Wish(row, frozenset(name for name, chance in ASKED.items() if rng.random() < chance))


def _phrase(rng: np.random.Generator, shop: Shop, wish: _Wish) -> str:
    """Lower-case words; one in seven uses a synonym that no title holds."""
    item = item_words(shop, wish.row)
    noun = item.shelf.nouns[item.noun] if rng.random() < 1 / 7 else item.noun
    parts = [
        item.brand if "brand" in wish.named else "",
        described(noun, item.trait) if "trait" in wish.named else noun,
        item.size if "size" in wish.named else "",
        item.look if "look" in wish.named else "",
    ]
    return " ".join(part for part in parts if part).lower()


def judged_tables(rng: np.random.Generator, shop: Shop, n: int) -> tuple[pa.Table, pa.Table]:
    """`queries.parquet` of `n` distinct queries, a quarter misspelt, and `judgements.parquet`.

    About 16 items a query are judged: all that fit best, some of the same noun, of the same shelf and of any other.
    A grade is the mean of three raters who each give 1, 2 or 3, so that it comes in thirds.
    """
    texts: dict[str, _Wish] = {}
    while len(texts) < n:
        wish = _wish(rng, int(rng.integers(len(shop.category))))
        text = _phrase(rng, shop, wish)
        texts.setdefault(misspelt(text, rng, always=True) if len(texts) % 4 == 3 else text, wish)
    splits = rng.permutation(np.repeat(list(SPLIT_SHARES), _shares(n)))
    ids = [f"query-{number:04d}" for number in range(n)]
    judged = [_judge(rng, shop, wish) for wish in texts.values()]
    counts = [len(rows) for rows, _ in judged]
    judgements = pa.table(
        {
            "query_id": np.repeat(ids, counts).tolist(),
            "item_id": [shop.ids[row] for row in np.concatenate([rows for rows, _ in judged])],
            "grade": pa.array(np.concatenate([grades for _, grades in judged]), pa.float32()),
            "split": np.repeat(splits, counts).tolist(),
        }
    )
    return pa.table({"query_id": ids, "text": list(texts)}), judgements


def _shares(n: int) -> list[int]:
    edges = np.round(np.cumsum([0.0, *SPLIT_SHARES.values()]) * n).astype(int)
    return [int(count) for count in np.diff(edges)]


def _judge(rng: np.random.Generator, shop: Shop, wish: _Wish) -> tuple[Codes, Reals]:
    """Item rows that raters saw, and their mean grades."""
    fit = _fit(shop, wish)
    bands = ((fit >= 0.99, 8), ((fit < 0.99) & (fit >= 0.5), 5), ((fit < 0.5) & (fit > 0), 3), (fit == 0, 2))
    rows = np.concatenate([rng.permutation(np.flatnonzero(band))[:most] for band, most in bands])
    ratings = np.round(1 + 2 * fit[rows, None] + rng.normal(0.0, 0.3, size=(len(rows), 3))).clip(1, 3)
    return rows, np.round(ratings.mean(axis=1), 2)


def _fit(shop: Shop, wish: _Wish) -> Reals:
    """How well each item answers the wish, float64 [n_items]: shelf .2, noun .3, and .5 for what the query names."""
    shelf = shop.category == shop.category[wish.row]
    noun = shelf & (shop.noun == shop.noun[wish.row])
    named = [_share(shop, wish, name) for name in sorted(wish.named)] or [np.ones(len(noun))]
    fit: Reals = 0.2 * shelf + noun * (0.3 + 0.5 * np.mean(named, axis=0))
    return fit


def _share(shop: Shop, wish: _Wish, name: str) -> Reals:
    """1 where an item has the wished attribute; half where a trait is only in its description."""
    codes: Codes = getattr(shop, name)
    wished = codes[wish.row]
    beside: Reals = 0.5 * (shop.second_trait == wished) if name == "trait" else np.zeros(len(codes))
    return np.where(codes == wished, 1.0, beside)
