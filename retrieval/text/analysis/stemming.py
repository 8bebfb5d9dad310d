"""Stemming for lexical search."""

from __future__ import annotations

ENDINGS = (
    ("ies", "y"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("zes", "z"), ("ss", "ss"),
    ("us", "us"), ("is", "is"), ("s", ""),
)  # fmt: skip
STEMMED = 4  # letters of the shortest word that is stemmed


def stem(word: str) -> str:
    """A lower-case word without its English plural ending, so that "hinges" matches "hinge".

    The S-stemmer of Harman (JASIS 1991), extended by plurals in -es.

    >>> [stem(word) for word in ("hinges", "batteries", "boxes", "axes", "brass", "gas")]
    ['hinge', 'battery', 'box', 'axe', 'brass', 'gas']
    """
    if len(word) >= STEMMED and word.endswith("s"):
        for ending, rest in ENDINGS:
            if len(word) > len(ending) + 1 and word.endswith(ending):
                return word.removesuffix(ending) + rest
    return word
