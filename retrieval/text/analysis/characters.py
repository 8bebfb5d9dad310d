"""Classes of characters that the standard library's regular expressions lack, each as the inside of [...]."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain

COMBINING = chain(range(0x300, 0x3400), range(0xA000, 0xAC00), range(0xF900, 0x1E960))  # the blocks between hold none
FURTHER_HAN = ((0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x323AF))
SYLLABLES = (0xAC00, 0xD7A3)  # of Hangul
BLOCKS_WITHOUT_SPACES = (
    range(0x0E00, 0x0F00),  # Thai, Lao
    range(0x1000, 0x10A0), range(0xA9E0, 0xAA00), range(0xAA60, 0xAA80),  # Myanmar
    range(0x1780, 0x1800),  # Khmer
    range(0x1100, 0x1200), range(0x3130, 0x3190), range(0xA960, 0xA980), range(0xFFA0, 0xFFE0),
    range(0x3041, 0x3100), range(0x31F0, 0x3200), range(0xFF66, 0xFFA0),  # Hangul above, Kana here
    range(0x3100, 0x3130), range(0x31A0, 0x31C0),  # Bopomofo
    range(0x2E80, 0x2FE0), range(0x3005, 0x3008), range(0x3021, 0x302A), range(0xF900, 0xFB00),  # Han
)  # fmt: skip


def _ranges(points: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending code points as first and last of each stretch without a gap."""
    first = last = -2
    for point in points:
        if point != last + 1:
            if last >= 0:
                yield first, last
            first = point
        last = point
    yield first, last


def _class(ranges: Iterable[tuple[int, int]]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _of_category(points: Iterable[int], category: str) -> Iterator[tuple[int, int]]:
    return _ranges(point for point in points if unicodedata.category(chr(point))[0] == category)


MARKS = _class(_of_category(COMBINING, "M"))  # combining
UNSPACED = _class(
    (*_of_category(chain(*BLOCKS_WITHOUT_SPACES), "L"), SYLLABLES, *FURTHER_HAN)
)  # letters of such scripts
LETTERS = rf"^\W\d_{UNSPACED}"  # of all other scripts
