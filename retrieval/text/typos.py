"""Augmentation of training texts: what people mistype and leave out, as pure functions of a text and an rng."""

from __future__ import annotations

import numpy as np

from retrieval.text.rendering import FIELD_SEPARATOR

NEIGHBOUR_KEYS = dict(zip("abcdefghijklmnopqrstuvwxyz", "svxsrghjoklknbpowtdyibecux", strict=True))
SHORTEST = 4  # letters of a word that is misspelt: a shorter one soon becomes another word
TWO_TYPOS = 0.3  # of the misspelt queries


def misspelt(text: str, rng: np.random.Generator, words: int = 1, *, always: bool = False) -> str:
    """`text` with a letter of so many words dropped, doubled, swapped with the next or missed by a key.

    Words of fewer than four letters or with a digit stay as they are, and so does a text of nothing else, unless it
    `always` has to change: then its first word does. Of a text that has fewer longer words than `words`, all change.
    """
    spelt = text.split()
    places = [place for place, word in enumerate(spelt) if len(word) >= SHORTEST and word.isalpha()]
    if always and spelt:
        places = places or [0]
    for _ in range(min(words, len(places))):
        at = int(rng.choice(places))
        places.remove(at)
        spelt[at] = _slipped(spelt[at], rng)
    return " ".join(spelt)


def misspelt_query(text: str, rng: np.random.Generator) -> str:
    """A query as typed in haste: one or two of its words misspelt.

    >>> misspelt_query("cordless drill 18v", np.random.default_rng(0))
    'cordless drrill 18v'
    """
    return misspelt(text, rng, 2 if rng.random() < TWO_TYPOS else 1)


def word_drop(text: str, rng: np.random.Generator) -> str:
    """`text` without one of its words; a single word stays.

    >>> word_drop("red steel mug", np.random.default_rng(0))
    'red steel'
    """
    words = text.split()
    if len(words) < 2:
        return text
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


def field_loss(text: str, share: float, rng: np.random.Generator) -> str:
    """An item's text with each field after the title lost at the chance `share`.

    >>> field_loss("Argan Oil Mask | Moroccanoil | Hair Care", 1.0, np.random.default_rng(0))
    'Argan Oil Mask'
    """
    title, *fields = text.split(FIELD_SEPARATOR)
    kept = rng.random(len(fields)) >= share
    return FIELD_SEPARATOR.join([title, *(field for field, keep in zip(fields, kept, strict=True) if keep)])


def _slipped(word: str, rng: np.random.Generator) -> str:
    """`word` with one slip, after its first letter where it has more; never unchanged."""
    letter = int(rng.integers(1, max(2, len(word) - 1)))
    head, this, after = word[:letter], word[letter : letter + 1], word[letter + 1 :]
    missed = head + NEIGHBOUR_KEYS.get(this, "x") + after
    slips = [head + after, head + this + this + after, head + after[:1] + this + after[1:], missed]
    slip = slips[int(rng.integers(len(slips)))]
    return slip if slip != word else missed
