"""Compounds of German and its neighbours, split into words that the catalogue has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

LANGUAGES = frozenset({"da", "de", "nl", "no", "sv"})  # that write compounds as one word
SHORTEST, LONGEST = 7, 40  # letters of a word that is split
SHORTEST_PART = 3
NOT_PARTS = frozenset(  # of the words that many catalogues have
    [
        "aan", "att", "auf", "aus", "bei", "das", "dem", "den", "der", "des", "det", "die", "een", "ein", "eine",
        "einer", "for", "fra", "für", "het", "ist", "med", "met", "mit", "nur", "och", "som", "til", "uit", "und",
        "van", "voor", "von", "vor", "zum", "zur",
    ]
)  # fmt: skip


def simple_stems(words: Iterable[str], stem: Callable[[str], str]) -> frozenset[str]:
    """The stems of the words that are not made of shorter ones: what compounds can be made of."""
    found = set[str]()
    for word in sorted(set(words) - NOT_PARTS, key=lambda word: (len(word), word)):
        if len(word) >= SHORTEST_PART and not parts(word, found, stem):
            found.add(stem(word))
    return frozenset(found)


def parts(word: str, stems: Set[str], stem: Callable[[str], str]) -> tuple[str, ...]:
    """The fewest words that a compound is made of, in their order, forms of words with these stems; none where it is no
    compound.

    >>> parts("damenregenjacke", {"damen", "regen", "jacke"}, str)
    ('damen', 'regen', 'jacke')
    """
    if not SHORTEST <= len(word) <= LONGEST:
        return ()
    until: list[tuple[str, ...] | None] = [(), *[None] * len(word)]  # the fewest parts of the first letters
    for end in range(SHORTEST_PART, len(word) + 1):
        for start in range(end - SHORTEST_PART + 1):
            before, best, part = until[start], until[end], word[start:end]
            if before is None or part == word or (best is not None and len(before) + 1 >= len(best)):
                continue
            if part not in NOT_PARTS and stem(part) in stems:
                until[end] = (*before, part)
    return until[-1] or ()
