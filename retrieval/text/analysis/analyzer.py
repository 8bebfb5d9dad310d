"""The analyzer: texts to words, words to the stems that an index holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import NamedTuple

from retrieval.fingerprint import fingerprint
from retrieval.text.analysis import compounds
from retrieval.text.analysis.folding import folded
from retrieval.text.analysis.normalisation import normalised
from retrieval.text.analysis.rules import spans
from retrieval.text.analysis.stemming import SNOWBALL, stem

VERSION = 2  # of what an analyzer makes of a text: raise it whenever that changes
CACHED = 200_000  # words whose stems and parts are kept at hand


class Span(NamedTuple):
    """A word as a text has it: from `start` to before `end`; `word` is its normalised form."""

    start: int
    end: int
    word: str


@dataclass(frozen=True)
class Analyzer:
    """How the texts of a catalogue in a language are read, and everything that is to be compared with them.

    A release records its analyzer; catalogue, queries, features and spelling correction all use that one. `parts` are
    stems of words that compounds are split into, see `of_catalogue`.
    """

    language: str = "en"  # ISO 639-1, or `none`
    parts: frozenset[str] = frozenset()
    _stems: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _compounds: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_catalogue(cls, language: str, texts: Iterable[str]) -> Analyzer:
        """An analyzer that splits compounds, in a language that has them, into words that the texts have.

        >>> analyzer = Analyzer.of_catalogue("de", ["Damen Jacke", "Regenschirm", "Regen"])
        >>> analyzer.words("Regenjacken")
        ['regenjacken', 'regen', 'jacken']
        """
        analyzer = cls(language)
        if language not in compounds.LANGUAGES:
            return analyzer
        words = {word for text in texts for word in analyzer.words(text) if word.isalpha()}
        return replace(analyzer, parts=compounds.simple_stems(words, analyzer.stem), _compounds={})

    @property
    def fingerprint(self) -> str:
        """Changes whenever the analyzer may read a text in another way, but for the parts of compounds."""
        stems = version("PyStemmer") if self.language in SNOWBALL else None
        return fingerprint(VERSION, self.language, stems)

    def words(self, text: str) -> list[str]:
        """The words of a text in their order, normalised, each compound with its parts behind it: see
        `retrieval.text.analysis.rules`.

        >>> Analyzer().words("Deck screw, 3/4in."), Analyzer().words("红色连衣裙 XL")
        (['deck', 'screw', '0.75', '19.05mm'], ['红色', '色连', '连衣', '衣裙', 'xl'])
        """
        text = normalised(text)
        found = [word for rule, start, end in spans(text) for word in rule.words(text[start:end])]
        return [one for word in found for one in (word, *self._parts(word))] if self.parts else found

    def signs(self, text: str) -> list[str]:
        """The signs of the words of scripts without spaces, each by itself, which say less than `words`.

        >>> Analyzer().signs("连衣裙 XL")
        ['连', '衣', '裙']
        """
        if text.isascii():
            return []
        text = normalised(text)
        return [sign for rule, start, end in spans(text) for sign in rule.alone(text[start:end])]

    def stem(self, word: str) -> str:
        """What forms of a word have in common, by which they find each other: it has neither accents nor endings, the
        word is one of `words`."""
        found = self._stems.get(word)
        if found is None:
            if len(self._stems) >= CACHED:
                self._stems.clear()
            found = self._stems[word] = stem(self.folded(word), self.language)
        return found

    def stems(self, text: str) -> list[str]:
        """The stems of the words of a text, in their order."""
        return list(map(self.stem, self.words(text)))

    def folded(self, word: str) -> str:
        """A word without accents, and as other spellings of it have it."""
        return folded(word, self.language)

    def spelt_words(self, text: str) -> Iterator[Span]:
        """The words of a text that are written in letters with spaces between words, where they stand in it."""
        for rule, start, end in spans(text):
            if rule.name == "letters":
                yield Span(start, end, normalised(text[start:end]))

    def _parts(self, word: str) -> tuple[str, ...]:
        found = self._compounds.get(word)
        if found is None:
            if len(self._compounds) >= CACHED:
                self._compounds.clear()
            found = compounds.parts(word, self.parts, self.stem) if word.isalpha() else ()
            self._compounds[word] = found
        return found
