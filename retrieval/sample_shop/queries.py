"""Search queries of the generated shop, and graded judgements of items for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.sample_shop.phrases import PHRASES
from retrieval.sample_shop.stock import Shop, item_words

__all__ = ["judged_tables", "search_words"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]

SPLIT_SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
NAMED = {"trait": 0.6, "size": 0.3, "look": 0.25, "brand": 0.15}  # probability that a query names each attribute


class _Intent(NamedTuple):
    """The item that a query is looking for, and the attributes that the query names besides the noun."""

    row: int
    named: frozenset[str]


def search_words(rng: np.random.Generator, shop: Shop, row: int) -> str:
    """A query for an item like the one at `row`; one query in eight is misspelt."""
    text = _phrase(rng, shop, _intent(rng, row))
    return PHRASES[shop.words.language].misspelt(text, rng) if rng.random() < 1 / 8 else text


def _intent(rng: np.random.Generator, row: int) -> _Intent:
    return _Intent(row, frozenset(name for name, chance in NAMED.items() if rng.random() < chance))


def _phrase(rng: np.random.Generator, shop: Shop, intent: _Intent) -> str:
    """The query's words; one in seven uses a synonym that no title has."""
    item = item_words(shop, intent.row)
    noun = item.shelf.nouns[item.noun] if rng.random() < 1 / 7 else item.noun
    named = {name: str(getattr(item, name)) for name in intent.named}
    return PHRASES[shop.words.language].query(rng, noun, named)


def judged_tables(rng: np.random.Generator, shop: Shop, n: int) -> tuple[pa.Table, pa.Table]:
    """`queries.parquet` of `n` distinct queries, a quarter misspelt, and `judgements.parquet`.

    About 16 items per query are judged: the best matches, some of the same noun, of the same category and of others. A
    grade is the mean of three raters, who each give 1, 2 or 3, so it is a multiple of a third.
    """
    texts: dict[str, _Intent] = {}
    phrases = PHRASES[shop.words.language]
    while len(texts) < n:
        intent = _intent(rng, int(rng.integers(len(shop.category))))
        text = _phrase(rng, shop, intent)
        texts.setdefault(phrases.misspelt(text, rng) if len(texts) % 4 == 3 else text, intent)
    splits = rng.permutation(np.repeat(list(SPLIT_SHARES), _shares(n)))
    ids = [f"query-{number:04d}" for number in range(n)]
    judged = [_judge(rng, shop, intent) for intent in texts.values()]
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


def _judge(rng: np.random.Generator, shop: Shop, intent: _Intent) -> tuple[Codes, Reals]:
    """The judged item rows and their mean grades."""
    fit = _fit(shop, intent)
    bands = ((fit >= 0.99, 8), ((fit < 0.99) & (fit >= 0.5), 5), ((fit < 0.5) & (fit > 0), 3), (fit == 0, 2))
    rows = np.concatenate([rng.permutation(np.flatnonzero(band))[:most] for band, most in bands])
    ratings = np.round(1 + 2 * fit[rows, None] + rng.normal(0.0, 0.3, size=(len(rows), 3))).clip(1, 3)
    return rows, np.round(ratings.mean(axis=1), 2)


def _fit(shop: Shop, intent: _Intent) -> Reals:
    """The relevance of each item, float64 [n_items]: .2 for category, .3 for noun, .5 for the named attributes."""
    shelf = shop.category == shop.category[intent.row]
    noun = shelf & (shop.noun == shop.noun[intent.row])
    named = [_share(shop, intent, name) for name in sorted(intent.named)] or [np.ones(len(noun))]
    fit: Reals = 0.2 * shelf + noun * (0.3 + 0.5 * np.mean(named, axis=0))
    return fit


def _share(shop: Shop, intent: _Intent, name: str) -> Reals:
    """1 where an item has the wanted attribute, .5 where a trait is only in its description; float64 [n_items]."""
    codes: Codes = getattr(shop, name)
    wanted = codes[intent.row]
    beside: Reals = 0.5 * (shop.second_trait == wanted) if name == "trait" else np.zeros(len(codes))
    return np.where(codes == wanted, 1.0, beside)
