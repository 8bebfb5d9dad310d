"""How a query fits an item: words, numbers and their units, the brand, the phrase as it stands, BM25 by field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.grouped import Numbers
from ranking.features.item_words import Codes, Part, Query, code_of, idf
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.text.analysis.measures import is_measure, is_number
from retrieval.topk import CSR, Mask

LONGEST_QUERY = 64  # words of a query that are read
FIRST = 2  # words of a title that are among the first beside as many as the query has
SATURATION, LENGTH_SHARE = 1.5, 0.75  # k1 and b of BM25
NO_QUERY = "no query"
MATCHES = {
    "words_in_title": ("share", "of the query's words that the title has"),
    "title_in_words": ("share", "of the title's words that the query has"),
    "numbers_matched": ("count", "numbers of the query that the title has"),
    "numbers_missed": ("count", "numbers of the query that the title lacks"),
    "measures_matched": ("count", "sizes and numbered words of the query, as 1/4 in and 12 pack, that the title has"),
    "measures_missed": ("count", "sizes and numbered words of the query that the title lacks"),
    "brand_named": ("0 or 1", "whether the query names the item's brand"),
    "phrase_in_title": ("0 or 1", "whether the title holds the query as it stands"),
    "first_words": ("share", "of the query's words among the first of the title"),
    "pairs_in_title": ("share", "of the query's pairs of neighbours that the title has"),
}
BM25: dict[str, tuple[Part, str]] = {
    "title_bm25": ("title", "BM25 of the query over the title alone"),
    "fields_bm25": ("fields", "BM25 of the query over brand, category and the beginning of the description"),
}


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    found = np.full((len(MATCHES), *shortlists.rows.shape), np.nan, np.float32)
    for line, text in enumerate(shortlists.corrected):
        query = facts.item_words.query(text, LONGEST_QUERY)
        places = np.flatnonzero(shortlists.rows[line] >= 0)
        if query.stems and len(places):
            rows = shortlists.rows[line, places].tolist()
            found[:, line, places] = _matches(query, facts.item_words.at("title", rows), _brands(rows, query, facts))
    changed = [typed != read for typed, read in zip(shortlists.typed, shortlists.corrected, strict=True)]
    length = [len(facts.analyzer.words(text)) for text in shortlists.corrected]
    return {
        **dict(zip(MATCHES, found, strict=True)),
        "query_length": np.log1p(np.array(length, np.float32))[:, None],
        "query_corrected": np.array(changed, np.float32)[:, None],
    }


def _matches(query: Query, titles: CSR, brands: Mask) -> NDArray[np.float64]:
    """The features of MATCHES of k candidates for one query, float64 [len(MATCHES), k]."""
    asked = np.unique(query.codes)
    has = counts(titles, asked) > 0
    place = np.arange(len(titles.rows)) - titles.indptr[titles.owners]
    among_first = counts(titles.where(place < len(query.codes) + FIRST), asked) > 0
    keys = np.unique((titles.owners << 32) | titles.rows)
    distinct = np.bincount(keys >> 32, minlength=titles.n_lists)
    numbers, sizes = (np.isin(asked, list(map(code_of, filter(kind, query.stems)))) for kind in (is_number, is_measure))
    pairs = np.unique(np.stack([query.codes[:-1], query.codes[1:]], axis=1), axis=0)
    held = np.stack([holds(titles, pair) for pair in pairs], axis=1) if len(pairs) else np.zeros((len(brands), 0), bool)
    counted = np.isin(pairs[:, 0], asked[numbers]) & ~np.isin(pairs[:, 1], asked[sizes])
    measures = np.concatenate((has[:, sizes], held[:, counted]), axis=1)
    return np.stack(
        [
            has.mean(axis=1),
            has.sum(axis=1) / np.maximum(distinct, 1),
            has[:, numbers].sum(axis=1),
            (~has[:, numbers]).sum(axis=1),
            measures.sum(axis=1),
            (~measures).sum(axis=1),
            brands,
            holds(titles, query.codes),
            among_first.mean(axis=1),
            held.sum(axis=1) / max(1, len(pairs)),
        ]
    )


def counts(texts: CSR, asked: Codes) -> NDArray[np.int64]:
    """How often each text has each word, int64 [n_texts, n_asked]."""
    at, word = np.nonzero(texts.rows[:, None] == asked)
    keys = texts.owners[at] * len(asked) + word
    return np.bincount(keys, minlength=texts.n_lists * len(asked)).reshape(texts.n_lists, len(asked))


def holds(texts: CSR, phrase: Codes) -> Mask:
    """Whether each text has the words of a phrase one after the other, bool [n_texts].

    >>> holds(CSR.from_lists([[1, 2, 3], [3, 1], [2, 3]]), np.array([2, 3])).tolist()
    [True, False, True]
    """
    owners, n = texts.owners, len(texts.rows) - len(phrase) + 1
    found = np.zeros(texts.n_lists, bool)
    if n > 0:
        starts = owners[:n] == owners[len(phrase) - 1 :]
        for offset, code in enumerate(phrase.tolist()):
            starts &= texts.rows[offset : offset + n] == code
        found[owners[:n][starts]] = True
    return found


def _brands(rows: Sequence[int], query: Query, facts: ShopFacts) -> Mask:
    """Whether the query has all words of each row's brand."""
    asked = set(query.stems)
    brands = map(facts.brand_words, rows)
    return np.array([bool(brand) and asked.issuperset(brand) for brand in brands], bool)


def _bm25(shortlists: Shortlists, facts: ShopFacts) -> Values:
    items_with = facts.items_with
    assert items_with is not None, "computed only where it is available"
    found = {name: np.full(shortlists.rows.shape, np.nan) for name in BM25}
    for line, text in enumerate(shortlists.corrected):
        query = facts.item_words.query(text, LONGEST_QUERY)
        places = np.flatnonzero(shortlists.rows[line] >= 0)
        if not query.stems or not len(places):
            continue
        rows, asked = shortlists.rows[line, places].tolist(), list(dict.fromkeys(query.stems))
        codes = np.array([code_of(stem) for stem in asked], np.int64)
        weights = np.array([idf(stem, items_with, facts.n_items) for stem in asked])
        for name, (part, _) in BM25.items():
            texts, usual = facts.item_words.at(part, rows), facts.item_words.usual_lengths[part]
            found[name][line, places] = bm25(counts(texts, codes), np.diff(texts.indptr) / usual, weights)
    return found


def bm25(times: NDArray[np.int64], lengths: Numbers, weights: Numbers) -> Numbers:
    """BM25 of k texts, float64 [k]: `times` [k, n_words] that each word is in them, `lengths` [k] in usual lengths,
    `weights` [n_words] of the words."""
    scale = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths)
    found: Numbers = (times / (times + scale[:, None])) @ weights
    return found


register_group(
    FeatureGroup(
        name="queries",
        reads="the query after spelling correction, titles and brands",
        features=(
            *(Feature(name, unit, about, NO_QUERY) for name, (unit, about) in MATCHES.items()),
            Feature("query_length", "log of 1 + words", "of the query"),
            Feature("query_corrected", "0 or 1", "whether the spelling was corrected"),
        ),
        alone=True,
        compute=_compute,
        version=2,
        searches=True,
    )
)
register_group(
    FeatureGroup(
        name="query_bm25",
        reads="the query after spelling correction, the items' fields, and how many items have each word",
        features=tuple(Feature(name, "BM25", about, NO_QUERY) for name, (_, about) in BM25.items()),
        alone=True,
        compute=_bm25,
        available=lambda facts: facts.items_with is not None,
        version=2,
        searches=True,
    )
)
