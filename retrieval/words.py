"""Words as lexical search reads them."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+|\d+")


def words(text: str) -> list[str]:
    """Lower-case words, digits apart from letters, so that "3/4in" and "3/4 in" meet.

    >>> words("Deck screw, 3/4in.")
    ['deck', 'screw', '3', '4', 'in']
    """
    return WORD.findall(text.lower())
