"""What the forms of a word have in common, by language."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Stemmer import Stemmer

SNOWBALL = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "es": "spanish", "fi": "finnish",
    "fr": "french", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "it": "italian", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
ENGLISH = (
    ("ies", "y"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("zes", "z"), ("ss", "ss"),
    ("us", "us"), ("is", "is"), ("s", ""),
)  # fmt: skip
BEFORE_SNOWBALL: Mapping[str, tuple[tuple[str, str], ...]] = {  # endings that it passes over where no accent is written
    "ar": (("ه", "ة"),),
    "fr": (
        ("ees", "e"), ("ee", "e"), ("ieres", "ier"), ("iere", "ier"), ("eres", "er"), ("ere", "er"), ("os", "o"),
        ("as", "a"),
    ),
    "pt": (("oes", "ao"), ("aes", "ao"), ("aos", "ao"), ("eis", "el"), ("ais", "al"), ("uis", "ul"), ("ens", "em")),
}  # fmt: skip
STEMMED = 4  # letters of the shortest word that is stemmed
_of_thread = threading.local()  # a stemmer of Snowball is one thread's


def stem(word: str, language: str) -> str:
    """A folded word without its ending: by Snowball, in English by `english_stem`; in other languages the word itself.

    >>> [stem(word, "de") for word in ("jacken", "jacke")], [stem(word, "fr") for word in ("decoree", "decores")]
    (['jack', 'jack'], ['decor', 'decor'])
    """
    if len(word) < STEMMED or any(map(str.isdigit, word)):
        return word
    if language == "en":
        return english_stem(word)
    if language not in SNOWBALL:
        return word
    found: str = _stemmer(language).stemWord(_replaced(word, BEFORE_SNOWBALL.get(language, ())))
    return found or word


def english_stem(word: str) -> str:
    """A lower-case word without its English plural ending, so that "hinges" matches "hinge".

    The S-stemmer of Harman (JASIS 1991), extended by plurals in -es. Snowball's stemmer found less on Home Depot.

    >>> [english_stem(word) for word in ("hinges", "batteries", "boxes", "axes", "brass", "gas")]
    ['hinge', 'battery', 'box', 'axe', 'brass', 'gas']
    """
    return _replaced(word, ENGLISH) if len(word) >= STEMMED and word.endswith("s") else word


def _replaced(word: str, endings: tuple[tuple[str, str], ...]) -> str:
    """The word with the first of the endings that it has replaced."""
    for ending, rest in endings:
        if len(word) > len(ending) + 1 and word.endswith(ending):
            return word.removesuffix(ending) + rest
    return word


def _stemmer(language: str) -> Stemmer:
    found = _of_thread.__dict__.get(language)
    if found is None:
        from Stemmer import Stemmer

        found = _of_thread.__dict__[language] = Stemmer(SNOWBALL[language])
    return found
