"""Words as lexical search reads them."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+|\d+")
ENDINGS = (
    ("ies", "y"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("zes", "z"), ("ss", "ss"),
    ("us", "us"), ("is", "is"), ("s", ""),
)  # fmt: skip
STEMMED = 4  # letters from which a word is stemmed


def words(text: str) -> list[str]:
    """Lower-case words, digits apart from letters, so that "3/4in" and "3/4 in" meet.

    >>> words("Deck screw, 3/4in.")
    ['deck', 'screw', '3', '4', 'in']
    """
    return WORD.findall(text.lower())


def stem(word: str) -> str:
    """A lower-case word without the s of its plural, so that "hinges" and "hinge" meet; any other word in s stays, or
    loses it in queries and items alike. The S-stemmer of Harman (JASIS 1991), with the plurals in -es of English.

    >>> [stem(word) for word in ("hinges", "batteries", "boxes", "axes", "brass", "gas")]
    ['hinge', 'battery', 'box', 'axe', 'brass', 'gas']
    """
    if len(word) >= STEMMED and word.endswith("s"):
        for ending, rest in ENDINGS:
            if len(word) > len(ending) + 1 and word.endswith(ending):
                return word.removesuffix(ending) + rest
    return word
