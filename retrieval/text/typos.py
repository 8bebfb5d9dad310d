"""Augmentation of training texts by typos and omissions, as pure functions of a text and a random generator."""

from __future__ import annotations

import numpy as np

from retrieval.text.rendering import FIELD_SEPARATOR

NEIGHBOUR_KEYS = dict(zip("abcdefghijklmnopqrstuvwxyz", "svxsrghjoklknbpowtdyibecux", strict=True))
SHORTEST = 4  # letters of the shortest word that is misspelt, because a shorter one easily becomes another word
TWO_TYPOS = 0.3  # share of the misspelt queries with two typos


def misspelt(text: str, rng: np.random.Generator, words: int = 1, *, always: bool = False) -> str:
    """`text` with a typo in `words` of its words: a letter dropped, doubled, swapped with the next or mistyped.

    Words of fewer than four letters or with a digit stay as they are. A text without any other word stays unchanged;
    with `always` its first word is misspelt instead.
    """
    spelt = text.split()
    places = [place for place, word in enumerate(spelt) if len(word) >= SHORTEST and word.isalpha()]
    if always and spelt:
        places = places or [0]
    for _ in range(min(words, len(places))):
        at = int(rng.choice(places))
        places.remove(at)
        spelt[at] = _with_typo(spelt[at], rng)
    return " ".join(spelt)


def misspelt_query(text: str, rng: np.random.Generator) -> str:
    """A query with a typo in one or two of its words.

    >>> misspelt_query("cordless drill 18v", np.random.default_rng(0))
    'cordless drrill 18v'
    """
    return misspelt(text, rng, 2 if rng.random() < TWO_TYPOS else 1)


def word_drop(text: str, rng: np.random.Generator) -> str:
    """`text` without a random one of its words; a single word stays.

    >>> word_drop("red steel mug", np.random.default_rng(0))
    'red steel'
    """
    words = text.split()
    if len(words) < 2:
        return text
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


def field_loss(text: str, share: float, rng: np.random.Generator) -> str:
    """An item's text with each field after the title dropped with probability `share`.

    >>> field_loss("Argan Oil Mask | Moroccanoil | Hair Care", 1.0, np.random.default_rng(0))
    'Argan Oil Mask'
    """
    title, *fields = text.split(FIELD_SEPARATOR)
    kept = rng.random(len(fields)) >= share
    return FIELD_SEPARATOR.join([title, *(field for field, keep in zip(fields, kept, strict=True) if keep)])


def _with_typo(word: str, rng: np.random.Generator) -> str:
    """`word` with one typo, not in its first letter unless it is the only one; never unchanged."""
    letter = int(rng.integers(1, max(2, len(word) - 1)))
    head, this, after = word[:letter], word[letter : letter + 1], word[letter + 1 :]
    missed = head + NEIGHBOUR_KEYS.get(this, "x") + after
    typos = [head + after, head + this + this + after, head + after[:1] + this + after[1:], missed]
    typo = typos[int(rng.integers(len(typos)))]
    return typo if typo != word else missed
