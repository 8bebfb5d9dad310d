"""Product codes as people type them: in any case, with other separators, after a label, inside a longer query.

A code is compared letter by letter first, then by its key: its letters and digits alone, in lower case, without zeros
in front where it is as long as a barcode. So `KX-0011-B` is `kx 0011 b`, and a UPC is the EAN with a zero in front.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from retrieval.text.analysis.measures import is_size
from retrieval.text.analysis.normalisation import normalised

BARCODE, PRINTED = (
    8,
    12,
)  # digits of the shortest barcode, GTIN-8, and of the shortest that is printed with blanks, UPC-A
FEWEST_DIGITS = 7  # of a code of digits alone that is compared by its key: fewer may be any number
FEWEST_SIGNS, FEWEST_INSIDE, FEWEST_JOINED = (
    3,
    4,
    7,
)  # of other codes: as the whole query, as one word of it, as several
WORD_LETTERS = 3  # of a longer word without digits, no code is a part
FEW_SIGNS = "\u0590"  # first code point after Latin, Greek, Cyrillic and Armenian
DIGITS_SHARE = 1 / 3  # least share of digits in a code that is typed with blanks
MOST_WORDS, MOST_JOINED = 32, 4  # words of a query that are looked at, and those that may be one code together
WHOLE, LABELLED, INSIDE = 6, 4, 2  # scores of a code that is equal letter by letter; by its key it has one less

_ACCENTS = ("\u0300", "\u036f")  # marks of Latin, Greek and Cyrillic letters
_OUTER = re.compile(r"^[\W_]+|[\W_]+$")  # what stands around a code
_WORDS = re.compile(r"[^\s,;:#=|()\[\]{}\"“”「」、，；]+")
_LATIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/\-]*[A-Za-z0-9]")
_SPOILT = re.compile(r"'?(\d+)\.0")  # a number as spreadsheets and floats leave it

_OWN = (
    "sku|gtin|ean|upc[ae]?|jan|isbn|issn|asin|fnsku|mpn|oem|epid|pzn|barcodes?|barkod|codebarres?|codigodebarras?"
    "|codiceabarre|codigobarras?|strichcode|streepjescode|streckkod|strekkode|stregkode|viivakoodi|kodkreskowy|vonalkod"
    "|carovykod|штрихкод|штрихкода|артикул|条码|条形码|货号|型号|品番|型番|品番号|商品コード|商品番号|バーコード|바코드"
    "|상품코드|모델번호|ref|reference|referencia|referenza|referentie|codigo|codice"
)
_THING = (
    "part|item|article|articulo|articolo|artigo|art|artikel|artykulu?|product|produit|producto|produto|prodotto|produktu?|towaru?"
    "|prod|model|modell|modele|modelo|modello|stock|stok|catalogue|catalog|cat|manufacturer|mfr|mfg|mfgr|oem|vendor"
    "|supplier|hersteller|herstellerartikel|teile|ersatzteil|bestell|vare|tuote|商品|产品|物料|部品|제품"
)
_NUMBER = "number|numbers|num|no|nr|nummer|numero|numer|code|codes|kod|kode|kodu|koodi|編號|编号|编码|番号|コード|번호"
_FRONT = "g|wc|variant|product|item|seller|merchant|manufacturer|supplier|vendor|master|parent|main|primary|internal"
_OF = "de|del|della|du|d|di|do|darticle|of"
CODE_NAME = re.compile(
    rf"(?:{_FRONT})*(?:(?:{_OWN})(?:{_NUMBER}|id|s)?|(?:{_THING})(?:{_NUMBER})"
    rf"|(?:{_NUMBER}|{_OWN})(?:{_OF})?(?:{_THING}|pieza|fabricante|fabricant|barras?|barre))(?:\d+)?"
)


class TypedCode(NamedTuple):
    """What may be a code in a query."""

    text: str  # as typed; equal to an id or a code letter by letter it scores `score`
    key: str  # its key, under which it scores one less; empty where it has to be equal letter by letter
    score: int


def is_code_column(name: str) -> bool:
    """Whether a column of that name holds barcodes, part numbers or other product codes.

    >>> [is_code_column(name) for name in ("gtin", "Variant Barcode", "g:mpn", "Artikel-Nr.", "partNumber", "货号")]
    [True, True, True, True, True, True]
    >>> [is_code_column(name) for name in ("category", "country_code", "phone number", "model")]
    [False, False, False, False]
    """
    letters = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name).casefold())
    joined = unicodedata.normalize("NFC", "".join(sign for sign in letters if not _ACCENTS[0] <= sign <= _ACCENTS[1]))
    return CODE_NAME.fullmatch("".join(filter(str.isalnum, joined))) is not None


def code_key(text: str) -> str:
    """The letters and digits of a code in lower case; of a barcode without the zeros in front.

    >>> code_key("KX-0011-B"), code_key("0 36000 29145 2"), code_key("'4006381333931.0")
    ('kx0011b', '36000291452', '4006381333931')
    """
    spoilt = _SPOILT.fullmatch(text)
    text = spoilt[1] if spoilt else text
    if not text.isascii():
        text = "".join(map(_plain_digit, unicodedata.normalize("NFKC", text)))
    key = "".join(filter(str.isalnum, text.casefold()))
    return key.lstrip("0") if len(key) >= BARCODE and key.isdigit() else key


def typed_codes(query: str) -> list[TypedCode]:
    """What may be a code in a query: the whole of it, what follows a label, and words with digits, alone or joined.

    A part of a query is one only if it has letters and digits, or as many digits as a barcode, so that no plain word
    and no number is.

    >>> typed_codes("KX-0011-B")
    [TypedCode(text='KX-0011-B', key='kx0011b', score=6)]
    >>> typed_codes("#4711")
    [TypedCode(text='#4711', key='', score=6), TypedCode(text='4711', key='', score=4)]
    >>> [code.text for code in typed_codes("EAN: 4006381333931")]
    ['EAN: 4006381333931', '4006381333931']
    """
    text = query.strip()
    if not text:
        return []
    found = [TypedCode(text, _key(text, FEWEST_SIGNS), WHOLE)]
    if not any(map(str.isdigit, text)):
        return found
    words = [word for part in _WORDS.findall(unicodedata.normalize("NFKC", text)) if (word := _OUTER.sub("", part))]
    words = words[:MOST_WORDS]
    label = next((n for n in range(1, min(MOST_JOINED, len(words))) if is_code_column(" ".join(words[:n]))), 0)
    rest, words = " ".join(words[label:]) if label else _OUTER.sub("", text), words[label:]
    if rest != text:
        found.append(TypedCode(rest, _key(rest, FEWEST_SIGNS), LABELLED))
    if words not in ([text], [rest]) or not text.isascii():
        found.extend(_inside(words))
    return found


def _inside(words: list[str]) -> Iterator[TypedCode]:
    for start, word in enumerate(words):
        parts = [word] if word.isascii() else [word, *_LATIN.findall(word)]
        for part in parts:
            if key := _key(part, FEWEST_INSIDE, digits=BARCODE):
                yield TypedCode(part, key, INSIDE)
        for end in range(start + 2, min(start + MOST_JOINED, len(words)) + 1):
            joined = " ".join(words[start:end])
            if key := _key(joined, FEWEST_JOINED, digits=PRINTED):
                yield TypedCode(joined, key, INSIDE)


def _key(text: str, signs: int, *, digits: int = FEWEST_DIGITS) -> str:
    """The key of what may be a code, else empty: a size is none."""
    key = "" if is_size(normalised(text).strip()) else code_key(text)
    n_digits = sum(map(str.isdigit, key))
    if n_digits == len(key):
        typed = sum(map(str.isdigit, text))
        return key if typed >= digits else ""
    if n_digits == 0 or len(key) < signs:
        return ""
    words = text.split()
    if len(words) > 1 and (
        n_digits < DIGITS_SHARE * len(key) or any(_is_plain(word) or is_size(word) for word in words)
    ):
        return ""
    return key


def _is_plain(word: str) -> bool:
    """Whether a word without digits is too long for a part of a code, or of a script in which two signs are a word."""
    return word.isalpha() and (len(word) > WORD_LETTERS or max(word) >= FEW_SIGNS)


def _plain_digit(sign: str) -> str:
    return str(unicodedata.decimal(sign)) if sign.isdecimal() else sign
