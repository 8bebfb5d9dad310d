"""Sizes: numbers with their units as words of their own, the same however they are written.

A measure is told in one unit for each dimension (millimetres, millilitres, grams, watts, ...), so that `1.5 l`, `1,5 L`
and `1500 ml` share a word. Fractions, decimals and dimensions such as `30x40` are words of their own as well.
Everything here reads text as `normalised` leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from retrieval.text.analysis.characters import LETTERS

UNITS: dict[str, str] = {  # "short form, how many of the first unit of its dimension, that unit": spellings
    "mm 1 mm": "mm millimeter? millimetre? millimètre? milimetro? millimetri мм 毫米 公厘 ミリ 밀리미터",
    "cm 10 mm": "cm centimeter? centimetre? centimètre? zentimeter centimetro? centimetri см 厘米 公分 センチ 센티",
    "m 1000 mm": "m meter? metre? mètre? metro? metri м 米 公尺 メートル 미터",
    "km 1e6 mm": "km kilometer? kilometre? kilomètre? км 公里 千米",
    "in 25.4 mm": "in inch inches zoll pouce? pulgada? pollice pollici дюйм дюйма дюймов 英寸 寸 吋 インチ 인치",
    "ft 304.8 mm": "ft foot feet fuss pied? 英尺 フィート",
    "yd 914.4 mm": "yd yds yard?",
    "sqft .092903 m2": "sq_ft sqft square_feet square_foot ft2",
    "m2 1 m2": "m2 qm sqm sq_m square_meter? square_metre? quadratmeter 平方米 平米 平方メートル",
    "ml 1 ml": "ml milliliter? millilitre? mililitro? millilitri cc мл 毫升 ミリリットル 밀리리터",
    "cl 10 ml": "cl centiliter? centilitre? centilitro?",
    "dl 100 ml": "dl deciliter? decilitre?",
    "l 1000 ml": "l lt ltr liter? litre? litro? litri л 升 公升 リットル 리터",
    "floz 29.5735 ml": "fl_oz floz fluid_ounce?",
    "pt 473.176 ml": "pint?",
    "qt 946.353 ml": "qt quart?",
    "gal 3785.41 ml": "gal gallon? 加仑",
    "cuft 28316.8 ml": "cu_ft cuft cubic_feet cubic_foot ft3",
    "mg .001 g": "mg milligram? milligramme? milligramm мг 毫克",
    "g 1 g": "g gr gram? gramm gramme? gramo? grammi г гр 克 公克 グラム 그램",
    "kg 1000 g": "kg kgs kilo? kilogram? kilogramm kilogramme? kilogramo? кг 千克 公斤 キロ 킬로",
    "oz 28.3495 g": "oz ounce? unze unzen onza? 盎司 オンス",
    "lb 453.592 g": "lb lbs pound? libra? livre? 磅 ポンド",
    "jin 500 g": "斤 市斤 pfund",
    "w 1 w": "w watt? вт 瓦 瓦特 ワット 와트",
    "kw 1000 w": "kw kilowatt? 千瓦",
    "v 1 v": "v volt? вольт 伏 伏特 ボルト 볼트",
    "a 1 a": "amp? ampere? ampère? amperio? 安培 アンペア",
    "ma .001 a": "ma milliamp? 毫安",
    "mah 1 mah": "mah 毫安时",
    "ah 1000 mah": "ah 安时",
    "wh 1 wh": "wh",
    "kwh 1000 wh": "kwh",
    "hz 1 hz": "hz hertz 赫兹",
    "khz 1000 hz": "khz",
    "mhz 1e6 hz": "mhz",
    "ghz 1e9 hz": "ghz",
    "mb .001 gb": "mb megabyte?",
    "gb 1 gb": "gb gigabyte? гб",
    "tb 1000 gb": "tb terabyte? тб",
    "mp 1 mp": "mp megapixel?",
    "lm 1 lm": "lm lumen? 流明",
    "psi 1 psi": "psi",
    "bar 1 bar": "bar",
    "btu 1 btu": "btu btus",
    "hp 1 hp": "hp ps",
    "rpm 1 rpm": "rpm",
    "db 1 db": "db decibel? 分贝",
}
INCHES, FEET = ('"', "''", "”", "′′"), ("'", "’", "′")  # after a digit
SMALL = frozenset({"mm", "ml", "mg", "g", "w", "mah", "ma", "hz", "lm", "btu", "rpm"})  # rarely told in thousandths
LARGEST_DIVISOR = 128  # of a fraction
LENGTH = "mm"  # in front of whose units the numbers of 30x40 lack their own


class Unit(NamedTuple):
    """A unit by its short form, and how many of the first unit of its dimension it is."""

    name: str
    factor: float
    base: str


def _spellings() -> Iterator[tuple[str, Unit]]:
    for about, spellings in UNITS.items():
        name, factor, base = about.split()
        for spelling in spellings.split():
            unit = Unit(name, float(factor), base)
            yield spelling.rstrip("?"), unit
            if spelling.endswith("?"):
                yield f"{spelling[:-1]}s", unit


SPELLINGS = dict(_spellings())
SPELLINGS |= {spelling.replace("_", ""): unit for spelling, unit in SPELLINGS.items()}
SPELLINGS |= dict.fromkeys(INCHES, SPELLINGS["in"]) | dict.fromkeys(FEET, SPELLINGS["ft"]) | {"a": SPELLINGS["amp"]}
_NOT_AFTER = "拉粉饭线级降面式"  # signs that make another word of a unit, such as 克拉
_FRACTION = r"(?:\d+(?: +| ?- ?))?\d+ ?/ ?\d+(?![\d/])"  # 1/4, 1 1/4, 1-1/4
_GROUPS = r"\d{1,3}(?:[.,']\d{3})+(?!\d)(?:[.,]\d+)?|\d{1,3} 000(?!\d)"  # 1,500 and, with a blank, 10 000
_DECIMAL = r"\d+[.,]\d+(?![.,]?\d)|(?<![\w.,])\.\d+"


def _alternatives(spellings: Iterator[str]) -> str:
    longest_first = sorted(spellings, key=len, reverse=True)
    return "|".join(re.escape(spelling).replace("_", r"\.? ?") for spelling in longest_first)


_SPACED = _alternatives(one for one, _ in _spellings() if one[0] < "\u0590")
_SIGNS = _alternatives(one for one, _ in _spellings() if one[0] >= "\u0590")
_UNIT = (
    rf"(?:(?:(?: {{0,2}}|-)(?:{_SPACED})|(?<=\d)a)(?![{LETTERS}]|[23](?!\d))(?<![ -]in(?=[ -]1\b))\.?"
    rf"| {{0,2}}(?:{_SIGNS})(?![{_NOT_AFTER}])|(?<=\d)(?:\"|''|”|′′|['’′](?![{LETTERS}])))"
)
_NUMBER = rf"(?:{_FRACTION}|{_GROUPS}|{_DECIMAL}|\d+)"
_PART = rf"{_NUMBER}{_UNIT}?"
_TIMES = rf"{_PART}(?: ?[x×*] ?{_PART})+(?![{LETTERS}])"  # 30x40 cm, 2 in. x 4 in.
_RANGE = rf"{_NUMBER}(?: ?[-–~] ?{_NUMBER})?{_UNIT}"  # 10 mm, 10-20 mm
SIZE = rf"(?=[\d.])(?:{_TIMES}|{_RANGE}|{_FRACTION}|{_GROUPS}|{_DECIMAL})"
PART = re.compile(rf"(?P<number>{_NUMBER})(?P<unit>{_UNIT})?")
TIMES = re.compile("[x×*]")
DROPPED = re.compile("[ .-]")


def size_words(span: str) -> list[str]:
    """The words of a span of SIZE: each number, and with its unit what it is in the first unit of that dimension.

    Several numbers without any unit, such as 2x4, are a word together as well.

    >>> size_words("1.5 l"), size_words("1500 ml"), size_words("1 1/4 in."), size_words("30x40 cm"), size_words("2x4")
    (['1.5', '1500ml'], ['1500', '1500ml'], ['1.25', '31.75mm'], ['30', '300mm', '40', '400mm'], ['2', '4', '2x4'])
    """
    parts, times = list(PART.finditer(span)), TIMES.search(span) is not None
    units = [_unit(part["unit"]) for part in parts]
    last = units[-1] if not times or (units[-1] and units[-1].base == LENGTH) else None
    found = list[str]()
    for part, own in zip(parts, units, strict=True):
        unit = own or last
        value = _value(part["number"], unit)
        if value is None:
            found += re.findall(r"\d+", part["number"])
            continue
        found.append(_shown(value))
        if unit is not None:
            found.append(f"{_shown(float(f'{value * unit.factor:.4g}'))}{unit.base}")
    return [*found, "x".join(found)] if times and not any(units) else found


def is_number(word: str) -> bool:
    """Whether a word of `size_words` is a number without a unit.

    >>> is_number("1.25"), is_number("31.75mm"), is_number("2x4")
    (True, False, False)
    """
    return re.fullmatch(r"\d+(?:\.\d+)?", word) is not None


def is_measure(word: str) -> bool:
    """Whether a word of `size_words` is a number in a unit, or several numbers together.

    >>> is_measure("1.25"), is_measure("31.75mm"), is_measure("2x4")
    (False, True, True)
    """
    return word[0].isdigit() and not is_number(word)


def is_size(text: str) -> bool:
    """Whether a text, as `normalised` leaves it, is a size and nothing else."""
    return re.fullmatch(SIZE, text) is not None


def _shown(value: float) -> str:
    return f"{value:.12g}"


def _unit(text: str | None) -> Unit | None:
    if not text:
        return None
    text = text.strip()
    return SPELLINGS[text if text in SPELLINGS else DROPPED.sub("", text)]


def _value(text: str, unit: Unit | None) -> float | None:
    """What a number is, in its unit; None for what only looks like a fraction."""
    if "/" in text:
        *whole, above, below = map(int, re.findall(r"\d+", text))
        return sum(whole) + above / below if above < below <= LARGEST_DIVISOR else None
    separators = re.findall(r"[.,' ]", text)
    if len(set(separators)) == 2:  # 1,234.5
        text = text.replace(separators[0], "")
    elif re.fullmatch(_GROUPS, text) and text[0] != "0" and (separators != ["."] or (unit and unit.name in SMALL)):
        text = "".join(filter(str.isdigit, text))
    return float(text.replace(",", "."))
