"""How a query fits an item's title: words, numbers and units, the brand, the phrase as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.text.words import stem, words

NAMES = (
    "words_in_title", "title_in_words", "numbers_matched", "numbers_missed", "brand_named", "phrase_in_title",
    "first_words", "pairs_in_title",
)  # fmt: skip


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    found = np.full((len(NAMES), *shortlists.rows.shape), np.nan, np.float32)
    stems: dict[str, str] = {}
    for line, text in enumerate(shortlists.corrected):
        query = [_stem(word, stems) for word in words(text)]
        if not query:
            continue
        for place in np.flatnonzero(shortlists.rows[line] >= 0).tolist():
            row = int(shortlists.rows[line, place])
            title = [_stem(word, stems) for word in facts.title_words(row)]
            found[:, line, place] = _match(query, title, facts.brand_words(row))
    changed = [typed != read for typed, read in zip(shortlists.typed, shortlists.corrected, strict=True)]
    length = [len(words(text)) for text in shortlists.corrected]
    return {
        **dict(zip(NAMES, found, strict=True)),
        "query_length": np.log1p(np.array(length, np.float32))[:, None],
        "query_corrected": np.array(changed, np.float32)[:, None],
    }


def _match(query: Sequence[str], title: Sequence[str], brand: Sequence[str]) -> tuple[float, ...]:
    asked, has = set(query), set(title)
    numbers = {word for word in asked if word.isdigit()}
    matched = len(numbers & has)
    pairs, of_title = set(pairwise(query)), set(pairwise(title))
    return (
        len(asked & has) / len(asked),
        len(asked & has) / max(1, len(has)),
        matched,
        len(numbers) - matched,
        float(bool(brand) and asked.issuperset(brand)),
        float(f" {' '.join(query)} " in f" {' '.join(title)} "),
        len(asked & set(title[: len(query) + 2])) / len(asked),
        len(pairs & of_title) / max(1, len(pairs)),
    )


def _stem(word: str, known: dict[str, str]) -> str:
    found = known.get(word)
    if found is None:
        found = known[word] = stem(word)
    return found


register_group(
    FeatureGroup(
        name="queries",
        reads="the query after spelling correction, titles and brands",
        features=(
            Feature("words_in_title", "share", "of the query's words that the title has", "no query"),
            Feature("title_in_words", "share", "of the title's words that the query has", "no query"),
            Feature("numbers_matched", "count", "numbers of the query that the title has", "no query"),
            Feature("numbers_missed", "count", "numbers of the query that the title lacks", "no query"),
            Feature("brand_named", "0 or 1", "whether the query names the item's brand", "no query"),
            Feature("phrase_in_title", "0 or 1", "whether the title holds the query as it stands", "no query"),
            Feature("first_words", "share", "of the query's words among the first of the title", "no query"),
            Feature("pairs_in_title", "share", "of the query's pairs of neighbours that the title has", "no query"),
            Feature("query_length", "log of 1 + words", "of the query"),
            Feature("query_corrected", "0 or 1", "whether the spelling was corrected"),
        ),
        compute=_compute,
        searches=True,
    )
)
