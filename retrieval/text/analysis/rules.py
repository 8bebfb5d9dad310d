"""What a word is in a text: rules, each of which takes a span of the text and says which words it holds.

A new kind of word is a new rule: at each place of a text the first of RULES that matches takes the span.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from retrieval.text.analysis.characters import LETTERS, MARKS, UNSPACED
from retrieval.text.analysis.measures import SIZE, size_words

SIGN = re.compile(f"[{UNSPACED}][{MARKS}]*")


@dataclass(frozen=True)
class Rule:
    """A kind of word: the pattern of its spans, without groups, and the words that a span holds.

    `alone` are further words of a span that an index holds and only a short query asks for.
    """

    name: str
    pattern: str
    words: Callable[[str], Sequence[str]]
    alone: Callable[[str], Sequence[str]] = lambda _: ()


def pairs(span: str) -> list[str]:
    """Overlapping pairs of the signs of a script without spaces between words; a sign that stands alone as it is.

    >>> pairs("连衣裙"), pairs("裙"), pairs("กาแฟ")
    (['连衣', '衣裙'], ['裙'], ['กา', 'าแ', 'แฟ'])
    """
    signs = SIGN.findall(span)
    return list(map("".join, pairwise(signs))) if len(signs) > 1 else signs


def signs(span: str) -> list[str]:
    """The signs of a span of more than one, each by itself."""
    found: list[str] = SIGN.findall(span)
    return found if len(found) > 1 else []


def whole(span: str) -> tuple[str, ...]:
    """The span as one word."""
    return (span,)


RULES = (
    Rule("size", SIZE, size_words),
    Rule("unspaced", f"[{UNSPACED}][{UNSPACED}{MARKS}]*", pairs, signs),
    Rule("letters", f"[{LETTERS}]+(?:[{MARKS}]+[{LETTERS}]*)*", whole),
    Rule("number", r"\d+", whole),
)
BY_NAME = {rule.name: rule for rule in RULES}
PATTERN = re.compile("|".join(f"(?P<{rule.name}>{rule.pattern})" for rule in RULES))


def spans(text: str) -> Iterator[tuple[Rule, int, int]]:
    """The spans of a text that hold words, in their order: their rule, start and end."""
    for found in PATTERN.finditer(text):
        assert found.lastgroup is not None
        yield BY_NAME[found.lastgroup], found.start(), found.end()
