"""The analyzer: texts to words, words to the terms that an index holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from retrieval.fingerprint import fingerprint
from retrieval.text.analysis.normalisation import normalised
from retrieval.text.analysis.rules import spans
from retrieval.text.analysis.stemming import stem

VERSION = 1  # of what an analyzer makes of a text: raise it whenever that changes


class Span(NamedTuple):
    """A word as a text has it: from `start` to before `end`; `word` is its normalised form."""

    start: int
    end: int
    word: str


@dataclass(frozen=True)
class Analyzer:
    """How the texts of a catalogue in a language are read, and everything that is to be compared with them.

    A release records its analyzer; catalogue, queries, features and spelling correction all use that one.
    """

    language: str = "en"  # ISO 639-1

    @property
    def fingerprint(self) -> str:
        """Changes whenever the analyzer may read a text in another way."""
        return fingerprint(VERSION, self.language)

    def words(self, text: str) -> list[str]:
        """The words of a text in their order, normalised: see `retrieval.text.analysis.rules`.

        >>> Analyzer().words("Deck screw, 3/4in."), Analyzer().words("红色连衣裙 XL")
        (['deck', 'screw', '3', '4', 'in'], ['红色', '色连', '连衣', '衣裙', 'xl'])
        """
        text = normalised(text)
        return [word for rule, start, end in spans(text) for word in rule.words(text[start:end])]

    def indexed_words(self, text: str) -> list[str]:
        """`words`, and those that only a short query asks for: each sign of a script without spaces.

        >>> Analyzer().indexed_words("连衣裙")
        ['连衣', '衣裙', '连', '衣', '裙']
        """
        text = normalised(text)
        found = [(rule, text[start:end]) for rule, start, end in spans(text)]
        return [word for rule, span in found for word in (*rule.words(span), *rule.alone(span))]

    def stem(self, word: str) -> str:
        """What words of one meaning have in common, by which they find each other; `word` is one of `words`."""
        return stem(word)

    def stems(self, text: str) -> list[str]:
        """The stems of the words of a text, in their order."""
        return [self.stem(word) for word in self.words(text)]

    def spelt_words(self, text: str) -> Iterator[Span]:
        """The words of a text that are written in letters with spaces between words, where they stand in it."""
        for rule, start, end in spans(text):
            if rule.name == "letters":
                yield Span(start, end, normalised(text[start:end]))
