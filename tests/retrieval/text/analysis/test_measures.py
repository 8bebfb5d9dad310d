"""Sizes: one word for one size, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer
from retrieval.text.analysis.measures import is_measure, is_number, is_size
from retrieval.text.analysis.normalisation import normalised

WAYS = {
    "1500ml": ("1.5l", "1,5 L", "1500 ml", "1.5 litres", "1,500 ml", "1.500 ml", "1500毫升", "1.5升", "１．５Ｌ",
               "1½ l", "150cl"),
    "6.35mm": ("1/4 in", "1/4\"", "¼ inch", "1/4-in.", ".25 in", "0,25 Zoll", "1/4 pulgadas", "6.35 mm", "1/4英寸"),
    "31.75mm": ("1 1/4 in", "1-1/4 in.", "1¼ inches", "1.25\"", "1 1/4 pouce"),
    "1829mm": ("6 ft", "6'", "6 ft.", "6-foot", "6′", "2 yd", "6 feet", "6 pieds"),
    "1000g": ("1kg", "1 kilo", "1000 g", "1.000 g", "1公斤", "1千克", "2斤", "1 Kilogramm", "1 кг", "1 000 g"),
    "20000mah": ("20000mAh", "20,000 mAh", "20 000 mAh", "20Ah", "20.000 mAh"),
    "1000gb": ("1TB", "1 tb", "1000 GB", "1,000GB"),
    "60w": ("60W", "60 watt", "60-Watt", "60瓦", "0.06 kW"),
    "18v": ("18V", "18 volts", "18-Volt", "18伏"),
    "1397mm": ("55 in", "55寸", "55\"", "55 Zoll", "139.7 cm"),
    "453.6g": ("1 lb", "16 oz", "1 pound", "1磅"),
    "9.29m2": ("100 sq. ft.", "100 sqft", "100 square feet"),
}  # fmt: skip
NO_SIZES = (
    "7克拉 钻石", "3 in 1 charger", "3-in-1", "24/7", "90's music", "pack of 12", "iphone 14", "5 a day", "3米粉",
    "4 more", "10 mini", "route 66", "2024/25", "v8", "1:10",
)  # fmt: skip


@pytest.mark.parametrize(("size", "text"), [(size, text) for size, ways in WAYS.items() for text in ways])
def test_a_size_is_one_word_however_it_is_written(size: str, text: str) -> None:
    assert size in Analyzer().words(text)
    assert size in Analyzer().words(f"a cable, {text}, red")
    assert is_size(normalised(text).strip())


@pytest.mark.parametrize("text", NO_SIZES)
def test_other_numbers_are_no_sizes(text: str) -> None:
    words = Analyzer().words(text)
    assert not list(filter(is_measure, words))
    assert all(number in words for number in ("7", "3", "24") if number in text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("30x40 cm", ["30", "300mm", "40", "400mm"]),
        ("30 × 40cm", ["30", "300mm", "40", "400mm"]),
        ("0.3 x 0.4 m", ["0.3", "300mm", "0.4", "400mm"]),
        ("2 in. x 4 in. x 8 ft.", ["2", "50.8mm", "4", "101.6mm", "8", "2438mm"]),
        ("6'2\"", ["6", "1829mm", "2", "50.8mm"]),
        ("10-20 mm", ["10", "10mm", "20", "20mm"]),
        ("6 x 330 ml", ["6", "330", "330ml"]),
        ("2x4", ["2", "4", "2x4"]),
        ("1 1/4", ["1.25"]),
        ("2,5", ["2.5"]),
        ("1,234.5 kg", ["1234.5", "1234000g"]),
        ("500毫升装", ["500", "500ml", "装"]),
        ("16gb ram 1tb", ["16", "16gb", "ram", "1", "1000gb"]),
    ],
)  # fmt: skip
def test_dimensions_ranges_and_numbers(text: str, words: list[str]) -> None:
    assert Analyzer().words(text) == words


def first(query: str, *titles: str) -> str:
    found = Lexical.of(titles, Analyzer()).read(RequestBatch.of_texts([query])).top(1).rows[0, 0]
    return titles[found]


@pytest.mark.parametrize(
    ("query", "wanted", "other"),
    [
        ("copper pipe 1/4 in", "copper pipe 1/4 in", "copper pipe 1 1/4 in"),
        ("copper pipe 1 1/4 in", "1-1/4 in. copper pipe", "copper pipe 1 in. x 1/4 in. 4 in"),
        ("kettle 1.5l", "Wasserkocher kettle 1,5 L", "kettle 1 l 5 cups"),
        ("kettle 1500 ml", "kettle 1.5 litres", "kettle 1.7 litres"),
        ("牛奶 500毫升", "牛奶 0.5升装", "牛奶 250毫升装"),
        ("55寸电视", "电视 55英寸", "电视 55瓦"),
        ("poster 40x30 cm", "poster 300 x 400 mm", "poster 300 x 400 cm"),
        ("ssd 1tb", "ssd 1000 gb", "ssd 500 gb"),
        ("6' ladder", "ladder 6 ft.", "ladder 6 in."),
        ("bulb 60-watt", "bulb 60W", "bulb 60 lm"),
    ],
)
def test_the_item_of_that_size_comes_first(query: str, wanted: str, other: str) -> None:
    assert first(query, wanted, other) == wanted
    assert first(query, other, wanted) == wanted


@given(st.text(alphabet="0123456789.,'/ x×-\"½inlmcfg克升装ab", max_size=24))
def test_any_mixture_of_numbers_is_read(text: str) -> None:
    words = Analyzer().words(text)
    assert all(words)
    assert bool(words) >= any(map(str.isdigit, text))
    assert not any(is_number(word) and is_measure(word) for word in words)


def test_a_long_number_takes_no_long_time() -> None:
    assert Analyzer().words("1" * 20_000) == ["1" * 20_000]
    assert len(Analyzer().words("1 1/" * 5_000)) == 10_000
    assert len(Analyzer().words("1x" * 5_000)) > 5_000
