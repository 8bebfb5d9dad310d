"""Misspelt queries: a word that no item has is read as the word of the catalogue that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retrieval.text.words import WORD, stem

SHORTEST = 4  # letters of a word that is doubted
ONE_SLIP = 8  # letters under which a word is thought to have one slip at most, from there on two
FEWEST_ITEMS = 2  # that must hold a word for it to have been meant
PARTS, PART_ITEMS = 3, 20  # letters, and items, of each half of two words that were written as one
SPELT = "\u0590"  # before it stand the scripts that are spelt: Latin, Greek, Cyrillic, Armenian
MOST_WORDS = 16  # unknown words of a query that are read: what is longer is no query
REMEMBERED = 10_000  # unknown words


@dataclass(frozen=True)
class Spelling:
    """What the words of queries probably were meant to be.

    A word is known if an item has it or its stem, if it is `beside` them, or if `is_word` says so: a model that has
    read much knows "gift" though no item is called so. Any other of SHORTEST letters or more becomes the word of the
    least distance (insertions, deletions, changes and swaps of letters: optimal string alignment), of those one with
    the same first letter, of those the one that most items have; or the two words that it is without a space.
    `items` is how many items hold each word, in any of its forms.
    """

    items: Mapping[str, int]
    is_word: Callable[[str], bool] = lambda _: False
    beside: frozenset[str] = frozenset()
    _by_length: dict[int, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _meant: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, codes: Mapping[str, int], indptr: NDArray[np.int64], is_word: Callable[[str], bool]) -> Spelling:
        """From the words of a `retrieval.sources.lexical.Lexical`."""
        sizes = np.diff(indptr)
        return cls({word: int(sizes[code]) for word, code in codes.items() if word}, is_word)

    def also(self, known: Iterable[str]) -> Spelling:
        """The same beside other words that are known."""
        return Spelling(self.items, self.is_word, frozenset(known), self._by_length)

    def corrected(self, text: str) -> str:
        """The text with its first MOST_WORDS unknown words replaced, all else as it was.

        >>> Spelling({"ratchet": 9, "screwdriver": 12}).corrected("Rachet screwdriver, 1/4")
        'ratchet screwdriver, 1/4'
        """
        left = MOST_WORDS

        def read(found: re.Match[str]) -> str:
            nonlocal left
            word = found[0].lower()
            if left == 0 or len(word) < SHORTEST or self._knows(word) or not _is_spelt(word):
                return found[0]
            left -= 1
            meant = self._read(word)
            return found[0] if meant == word else meant

        return WORD.sub(read, text)

    def _knows(self, word: str) -> bool:
        return not {word, stem(word)}.isdisjoint(self.items) or word in self.beside

    def _read(self, word: str) -> str:
        meant = self._meant.get(word)
        if meant is None:
            if len(self._meant) >= REMEMBERED:
                self._meant.clear()
            meant = self._meant[word] = word if self.is_word(word) else self._nearest(word)
        return meant

    def _nearest(self, word: str) -> str:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        slips = 1 if len(word) < ONE_SLIP else 2
        alike = (self._vocabulary.get(size, []) for size in range(len(word) - slips, len(word) + slips + 1))
        near = [
            found
            for some in alike
            for found in process.extract(word, some, scorer=OSA.distance, score_cutoff=slips, limit=None)
        ]
        least = min((distance for _, distance, _ in near), default=slips + 1)
        if least > 1 and (two := max(self._halves(word), default=None)) is not None:
            return two[1]
        meant = [other for other, distance, _ in near if distance == least]
        return max(meant, key=lambda other: (other[0] == word[0], self.items[other], other), default=word)

    def _halves(self, word: str) -> Iterator[tuple[int, str]]:
        """Two words that many items have and that together are this one: the items of the rarer one, and both."""
        for at in range(PARTS, len(word) - PARTS + 1):
            rarer = min(self.items.get(word[:at], 0), self.items.get(word[at:], 0))
            if rarer >= PART_ITEMS:
                yield rarer, f"{word[:at]} {word[at:]}"

    @property
    def _vocabulary(self) -> dict[int, list[str]]:
        """The words that may have been meant, by how many letters they have; made when first asked for."""
        if not self._by_length:
            found: dict[int, list[str]] = {0: []}
            for word, n in self.items.items():
                if n >= FEWEST_ITEMS and len(word) >= SHORTEST - 1 and _is_spelt(word):
                    found.setdefault(len(word), []).append(word)
            self._by_length.update(found)
        return self._by_length


def _is_spelt(word: str) -> bool:
    """Whether it is of letters whose order makes a word, unlike digits and signs that are words themselves."""
    return word.isalpha() and max(word) < SPELT
