"""One spelling of each character: compatibility forms, letter case, invisible characters, digits, fractions."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = (  # hyphens and joiners that are not shown, directions, variants of one sign; tatweel only stretches
    "\u00ad\u034f\u061c\u0640\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef"
)
VOWEL_MARKS = (  # of Hebrew, of Arabic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
)
TRADE_MARKS = "\u2120\u2122\u00a9\u00ae"
REMOVED = re.compile(f"[{INVISIBLE}{VOWEL_MARKS}]")
BEFORE_NFKC = str.maketrans(
    dict.fromkeys(TRADE_MARKS, " ")
    | {
        character: f" {unicodedata.normalize('NFKC', character).replace(chr(0x2044), '/')} "
        for character in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
    }
)
OTHER_DIGIT = re.compile(r"(?![0-9])\d")


def normalised(text: str) -> str:
    """The text in lower case and compatibility form (NFKC, case folding), so that what looks alike is alike.

    Trade marks and invisible characters go, and so do the vowel marks of Arabic and Hebrew; a fraction stands apart
    from the number before it; digits of all scripts are 0 to 9.

    >>> normalised("ＵＳＢ Straße KitchenAid™ 1½ in"), normalised("٣ שָׁלוֹם")
    ('usb strasse kitchenaid  1 1/2  in', '3 שלום')
    """
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFKC", text.translate(BEFORE_NFKC))
    folded = unicodedata.normalize("NFKC", REMOVED.sub("", composed).casefold())
    return OTHER_DIGIT.sub(lambda found: str(unicodedata.digit(found[0])), folded)
