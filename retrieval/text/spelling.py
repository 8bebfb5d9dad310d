"""Spelling correction of queries: an unknown word is replaced by the nearest word of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.text.analysis import Analyzer

SHORTEST = 4  # letters of the shortest word that is corrected
ONE_EDIT = 8  # letters below which a correction is at most one edit away, from there on two
FEWEST_ITEMS = 2  # items that a word has to occur in to be a correction
PART_LETTERS, PART_ITEMS = 3, 20  # least letters and items of each part when a word is split into two
SPELT = "\u0590"  # first code point after the scripts that are corrected: Latin, Greek, Cyrillic, Armenian
MOST_WORDS = 16  # unknown words of a query that are corrected at most
CACHED = 10_000  # corrections that are cached


@dataclass(frozen=True)
class Spelling:
    """Corrects the words of queries that the catalogue does not know.

    A word is known if an item has it or its stem, if it is in `extra_words`, or if `is_word` accepts it: a language
    model knows "gift" although no item has the word. Any other word of SHORTEST letters or more is replaced by the word
    at the least edit distance (optimal string alignment: insertions, deletions, substitutions and swaps), preferring
    one with the same first letter, then the one in most items; or by two words, if it is both without a space.
    `items` counts the items that each word occurs in, in any of its forms; `analyzer` read them.
    """

    items: Mapping[str, int]
    is_word: Callable[[str], bool] = lambda _: False
    extra_words: frozenset[str] = frozenset()
    analyzer: Analyzer = field(default_factory=Analyzer)
    _by_length: dict[int, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _cache: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, codes: Mapping[str, int], indptr: NDArray[np.int64], is_word: Callable[[str], bool], analyzer: Analyzer
    ) -> Spelling:
        """From the `codes`, `indptr` and `analyzer` of a `retrieval.sources.lexical.Lexical`."""
        sizes = np.diff(indptr)
        return cls(
            {word: int(sizes[code]) for word, code in codes.items() if word and word[0] < SPELT},
            is_word,
            analyzer=analyzer,
        )

    def with_extra_words(self, words: Iterable[str]) -> Spelling:
        """A copy with other extra words."""
        return replace(self, extra_words=frozenset(words), _cache={})

    def corrected(self, text: str) -> str:
        """The text with its first MOST_WORDS unknown words replaced and everything else unchanged.

        >>> Spelling({"ratchet": 9, "screwdriver": 12}).corrected("Rachet screwdriver, 1/4")
        'ratchet screwdriver, 1/4'
        """
        left, parts, at = MOST_WORDS, list[str](), 0
        for start, end, word in self.analyzer.spelt_words(text):
            if left == 0 or len(word) < SHORTEST or self._knows(word) or not _is_spelt(word):
                continue
            left -= 1
            correction = self._corrected_word(word)
            if correction != word:
                parts += [text[at:start], correction]
                at = end
        return "".join([*parts, text[at:]])

    def _knows(self, word: str) -> bool:
        return not {word, self.analyzer.stem(word)}.isdisjoint(self.items) or word in self.extra_words

    def _corrected_word(self, word: str) -> str:
        correction = self._cache.get(word)
        if correction is None:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            correction = self._cache[word] = word if self.is_word(word) else self._nearest(word)
        return correction

    def _nearest(self, word: str) -> str:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        edits = 1 if len(word) < ONE_EDIT else 2
        similar = (self._vocabulary.get(size, []) for size in range(len(word) - edits, len(word) + edits + 1))
        near = [
            found
            for some in similar
            for found in process.extract(word, some, scorer=OSA.distance, score_cutoff=edits, limit=None)
        ]
        least = min((distance for _, distance, _ in near), default=edits + 1)
        if least > 1 and (two := max(self._splits(word), default=None)) is not None:
            return two[1]
        nearest = [other for other, distance, _ in near if distance == least]
        return max(nearest, key=lambda other: (other[0] == word[0], self.items[other], other), default=word)

    def _splits(self, word: str) -> Iterator[tuple[int, str]]:
        """Splits of the word into two frequent words, as (items of the rarer one, "both words")."""
        for at in range(PART_LETTERS, len(word) - PART_LETTERS + 1):
            rarer = min(self.items.get(word[:at], 0), self.items.get(word[at:], 0))
            if rarer >= PART_ITEMS:
                yield rarer, f"{word[:at]} {word[at:]}"

    @property
    def _vocabulary(self) -> dict[int, list[str]]:
        """The words that can be corrections, by their number of letters; built on first use."""
        if not self._by_length:
            found: dict[int, list[str]] = {0: []}
            for word, n in self.items.items():
                if n >= FEWEST_ITEMS and len(word) >= SHORTEST - 1 and _is_spelt(word):
                    found.setdefault(len(word), []).append(word)
            self._by_length.update(found)
        return self._by_length


def _is_spelt(word: str) -> bool:
    """Whether the word is written in letters of a corrected script, without digits."""
    return word.isalpha() and max(word) < SPELT
