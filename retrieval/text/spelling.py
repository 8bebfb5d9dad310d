"""Spelling correction of queries: an unknown word is replaced by the nearest word of the catalogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.text.analysis import Analyzer
from retrieval.text.analysis.characters import UNSPACED
from retrieval.text.analysis.measures import SPELLINGS

SHORTEST = 4  # letters of the shortest word that is corrected
ONE_EDIT = 8  # letters below which a correction is at most one edit away, from there on two
FEWEST_ITEMS = 2  # items that a word has to occur in to be a correction
PART_LETTERS, PART_ITEMS = 3, 20  # least letters and items of each part when a word is split into two
SPELT = "\u0590"  # first code point after the scripts that are corrected: Latin, Greek, Cyrillic, Armenian
MOST_WORDS = 16  # unknown words of a query that are corrected at most
CACHED = 10_000  # corrections that are cached
SURE = 6  # letters of the shortest word whose correction may be beyond doubt
RIVAL = 2  # times as many items as any other word as near has a correction beyond doubt
ASKED = 2  # past searches that a word without items is known by
SLIPS = 10  # times as often as its slips a word is searched for, at most
UNSPACED_LANGUAGES = frozenset(("ja", "km", "ko", "lo", "my", "th", "zh"))
OTHER_SCRIPT = re.compile(f"[{UNSPACED}]")


class Reading(NamedTuple):
    """A query as it is searched for.

    `text` is what every model reads. Where a correction is in doubt it has both words, and `typed` and `meant` are the
    query with the one and with the other; else they are `text`.
    """

    text: str
    typed: str
    meant: str

    @property
    def in_doubt(self) -> bool:
        """Whether two queries are searched for."""
        return self.typed != self.meant


class _Correction(NamedTuple):
    word: str
    sure: bool


@dataclass(frozen=True)
class Spelling:
    """Corrects the words of queries that the catalogue does not know.

    A word is known if an item has it or its stem, if it is in `extra_words` or a unit, if `is_word` accepts it or its
    stem (a language model knows "gift" although no item has the word), or if shoppers search for it often, see
    `asked`. Any other word of SHORTEST letters or more has a correction: the word at the least edit distance (optimal
    string alignment: insertions, deletions, substitutions and swaps), preferring one with the same first letter, then
    the one in most items; or two words, if it is both without a space. That is in doubt for a short word, where the
    first letter differs, and where another word is as near and in nearly as many items: then both words are searched.
    In languages without spaces between words, and in queries with words of such, nothing is corrected.

    `items` counts the items that each word occurs in, in any of its forms; `analyzer` read them. `asked` counts past
    searches by word: one that is asked for at least ASKED times, and not much less often than its correction, is known.
    """

    items: Mapping[str, int]
    is_word: Callable[[str], bool] = lambda _: False
    extra_words: frozenset[str] = frozenset()
    analyzer: Analyzer = field(default_factory=Analyzer)
    asked: Mapping[str, int] = field(default_factory=dict)
    _by_length: dict[int, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _cache: dict[str, _Correction] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        codes: Mapping[str, int],
        indptr: NDArray[np.int64],
        is_word: Callable[[str], bool],
        analyzer: Analyzer,
        asked: Mapping[str, int] | None = None,
    ) -> Spelling:
        """From the `codes`, `indptr` and `analyzer` of a `retrieval.sources.lexical.Lexical`."""
        sizes = np.diff(indptr)
        return cls(
            {word: int(sizes[code]) for word, code in codes.items() if word and word[0] < SPELT},
            is_word,
            analyzer=analyzer,
            asked=asked or {},
        )

    def with_extra_words(self, words: Iterable[str]) -> Spelling:
        """A copy with other extra words."""
        return replace(self, extra_words=frozenset(words), _cache={})

    def read(self, text: str) -> Reading:
        """The text with its first MOST_WORDS unknown words replaced, or beside their corrections where those are in
        doubt, and everything else unchanged.

        >>> Spelling({"ratchet": 9, "screwdriver": 12, "lamp": 3}).read("Rachet screwdriver, 1/4").text
        'ratchet screwdriver, 1/4'
        >>> Spelling({"lamp": 3, "shade": 2}).read("lmap shade")
        Reading(text='lmap lamp shade', typed='lmap shade', meant='lamp shade')
        """
        changes = list(self._changes(text))
        meant = [(start, end, one.word) for start, end, one in changes]
        sure = [(start, end, one.word) for start, end, one in changes if one.sure]
        both = [(start, end, one.word if one.sure else f"{text[start:end]} {one.word}") for start, end, one in changes]
        return Reading(_changed(text, both), _changed(text, sure), _changed(text, meant))

    def _changes(self, text: str) -> Iterator[tuple[int, int, _Correction]]:
        """Where words are corrected, at most MOST_WORDS of them."""
        if self.analyzer.language in UNSPACED_LANGUAGES or OTHER_SCRIPT.search(text):
            return
        left = MOST_WORDS
        for start, end, word in self.analyzer.spelt_words(text):
            if left == 0 or len(word) < SHORTEST or self._knows(word) or not _is_spelt(word):
                continue
            left -= 1
            correction = self._correction(word)
            if correction.word != word:
                yield start, end, correction

    def _knows(self, word: str) -> bool:
        forms = {word, self.analyzer.stem(word)}
        return not forms.isdisjoint(self.items) or word in self.extra_words or word in SPELLINGS

    def _correction(self, word: str) -> _Correction:
        correction = self._cache.get(word)
        if correction is None:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            known = self.is_word(word) or self.is_word(self.analyzer.stem(word))
            correction = self._cache[word] = _Correction(word, True) if known else self._nearest(word)
        return correction

    def _nearest(self, word: str) -> _Correction:
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
            return _Correction(two[1], True)
        nearest = [other for other, distance, _ in near if distance == least]
        best, *others = sorted(nearest, key=lambda one: (one[0] == word[0], self.items[one], one), reverse=True) or [
            word
        ]
        if self._is_asked_for(word, best):
            return _Correction(word, True)
        rivals = (other for other in others if self.analyzer.stem(other) != self.analyzer.stem(best))
        alone = all(self.items[other] * RIVAL < self.items[best] for other in rivals)
        return _Correction(best, len(word) >= SURE and best[0] == word[0] and alone)

    def _is_asked_for(self, word: str, correction: str) -> bool:
        """Whether past searches have a word too often for a slip in another."""
        times = self.asked.get(word, 0)
        return times >= ASKED and times * SLIPS >= self.asked.get(correction, 0)

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


def _changed(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """A text with spans of it replaced."""
    parts, at = list[str](), 0
    for start, end, word in changes:
        parts += [text[at:start], word]
        at = end
    return "".join([*parts, text[at:]])


def words_asked(texts: Iterable[str], times: Iterable[int], analyzer: Analyzer) -> Mapping[str, int]:
    """How often each spelt word was searched for, of past queries and how often each was asked."""
    counts = Counter[str]()
    for text, n in zip(texts, times, strict=True):
        for word in {word for _, _, word in analyzer.spelt_words(text)}:
            counts[word] += n
    return {word: n for word, n in counts.items() if n >= ASKED}
