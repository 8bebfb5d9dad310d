"""Misspelt queries: a word that no item has is read as the word of the catalogue that was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieval.words import WORD

SHORTEST = 4  # letters of a word that is doubted
ONE_SLIP = 8  # letters under which a word is thought to have one slip at most, from there on two
FEWEST_ITEMS = 2  # that must hold a word for it to have been meant
PARTS, PART_ITEMS = 3, 20  # letters, and items, of each half of two words that were written as one
SPELT = "\u0590"  # before it stand the scripts that are spelt: Latin, Greek, Cyrillic, Armenian
REMEMBERED = 10_000  # unknown words


@dataclass(frozen=True)
class Spelling:
    """What the words of queries probably were meant to be.

    A word is known if an item has it, if it is `beside` them, or if `is_word` says so: a model that has read much knows
    "gift" though no item is called so. Any other of SHORTEST letters or more becomes the word of the least distance
    (insertions, deletions, changes and swaps of letters: optimal string alignment), of those one with the same
    first letter, of those the one that most items have; or the two words that it is without a space.
    `items` is how many items hold each word.
    """

    items: Mapping[str, int]
    is_word: Callable[[str], bool] = lambda _: False
    beside: frozenset[str] = frozenset()
    _meant: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, codes: Mapping[str, int], indptr: NDArray[np.int64], is_word: Callable[[str], bool]) -> Spelling:
        """From the words of a `retrieval.sources.Lexical`."""
        sizes = np.diff(indptr)
        return cls({word: int(sizes[code]) for word, code in codes.items() if word}, is_word)

    def corrected(self, text: str) -> str:
        """The text with unknown words replaced, all else as it was.

        >>> Spelling({"ratchet": 9, "screwdriver": 12}).corrected("Rachet screwdriver, 1/4")
        'ratchet screwdriver, 1/4'
        """
        return WORD.sub(lambda found: self._read(found[0]), text)

    def _read(self, written: str) -> str:
        word = written.lower()
        if len(word) < SHORTEST or word in self.items or word in self.beside or not _is_spelt(word):
            return written
        meant = self._meant.get(word)
        if meant is None:
            if len(self._meant) >= REMEMBERED:
                self._meant.clear()
            meant = self._meant[word] = word if self.is_word(word) else self._nearest(word)
        return written if meant == word else meant

    def _nearest(self, word: str) -> str:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        slips = 1 if len(word) < ONE_SLIP else 2
        near = process.extract(word, self._vocabulary, scorer=OSA.distance, score_cutoff=slips, limit=None)
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

    @cached_property
    def _vocabulary(self) -> list[str]:
        held = (word for word, n in self.items.items() if n >= FEWEST_ITEMS)
        return [word for word in held if len(word) >= SHORTEST - 1 and _is_spelt(word)]


def _is_spelt(word: str) -> bool:
    """Whether it is of letters whose order makes a word, unlike digits and signs that are words themselves."""
    return word.isalpha() and max(word) < SPELT
