"""Misspelt words: which are doubted, and what they are taken for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.sources.lexical import Lexical
from retrieval.text.analysis import Analyzer
from retrieval.text.spelling import ASKED, CACHED, FEWEST_ITEMS, PART_ITEMS, SLIPS, Spelling, words_asked

ITEMS = {
    "ratchet": 9, "screwdriver": 12, "screwdrivers": 3, "shower": 40, "head": 60, "led": 80, "bulb": 30, "cream": 8,
    "gream": 90, "lamp": 5, "rare": 1, "tap": 50, "tape": 9, "caps": 9, "лампа": 7,
}  # fmt: skip


def test_an_unknown_word_is_taken_for_the_nearest_and_the_rest_stays_as_typed() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.read("Rachet SCREWDRIVER, 1/4in").meant == "ratchet SCREWDRIVER, 1/4in"
    assert spelling.read("the srewdirver").meant == "the screwdriver"  # a letter short and two swapped
    assert spelling.read("лямпа").meant == "лампа"
    assert spelling.read("").meant == ""


@pytest.mark.parametrize(
    "text", ["shower head", "tpa", "lmp", "12345", "x9y8z7w6", "totally elsewhere", "灯泡灯泡灯炮"]
)
def test_known_short_far_and_unspelt_words_stay(text: str) -> None:
    assert Spelling({**ITEMS, "灯泡灯泡灯泡": 9}).read(text).meant == text


def test_a_short_word_is_allowed_one_slip_and_a_long_one_two() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.read("showre").meant == "shower"  # a swap is one
    assert spelling.read("shoewrr").meant == "shoewrr"
    assert spelling.read("scrwedrver").meant == "screwdriver"


def test_the_first_letter_decides_before_how_many_items_have_a_word() -> None:
    assert Spelling(ITEMS).read("craem").meant == "cream"
    assert Spelling(ITEMS).read("creaam").meant == "cream"
    assert Spelling(ITEMS).read("dream").meant == "gream"
    assert Spelling({"cable": 3, "carle": 7}).read("catle").meant == "carle"
    assert Spelling({"cable": 3, "tale": 90}).read("cale").meant == "cable"


def test_two_words_written_as_one_are_parted_where_no_word_is_one_slip_away() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.read("showerhead").meant == "shower head"
    assert spelling.read("LEDbulb").meant == "led bulb"
    assert spelling.read("headrare").meant == "headrare"  # one of them is rare
    assert spelling.read("capstape").meant == "capstape"  # of words that few items have, anything could be made
    assert Spelling({**ITEMS, "caps": PART_ITEMS, "tape": PART_ITEMS}).read("capstape").meant == "caps tape"
    assert Spelling({**ITEMS, "showerheads": 2}).read("showerhead").meant == "showerheads"


def test_what_hardly_any_item_is_called_was_not_cache() -> None:
    assert Spelling({"ratchet": FEWEST_ITEMS - 1}).read("rachet").meant == "rachet"
    assert Spelling({"ratchet": FEWEST_ITEMS}).read("rachet").meant == "ratchet"


def test_a_plural_of_a_known_word_is_no_misspelling() -> None:
    assert Spelling(ITEMS).read("lamps ratchets").meant == "lamps ratchets"
    lexical = Lexical.of(["hinges", "hinges", "hinge"], Analyzer())
    spelling = Spelling.of(lexical.codes, lexical.indptr, lambda _: False, lexical.analyzer)
    assert spelling.items == {"hinge": 3, "hinges": 3}
    assert spelling.read("hingges").meant == "hinges"


@pytest.mark.parametrize(
    ("typed", "read", "meant"),
    [
        ("lmap shade", "lmap lamp shade", "lamp shade"),  # short
        ("ikea shelf", "ikea idea shelf", "idea shelf"),
        ("gratchet", "gratchet ratchet", "ratchet"),  # another first letter
        ("matter", "matter master", "master"),  # as many items have "mattes"
        ("lmap srewdirver", "lmap lamp screwdriver", "lamp screwdriver"),  # one of two
        ("IKEA, lmap!", "IKEA idea, lmap lamp!", "idea, lamp!"),
    ],
)
def test_where_a_correction_is_in_doubt_both_are_searched_for(typed: str, read: str, meant: str) -> None:
    reading = Spelling({**ITEMS, "idea": 9, "shade": 9, "shelf": 9, "master": 9, "mattes": 8}).read(typed)
    assert (reading.text, reading.meant) == (read, meant)
    assert reading.in_doubt


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rachet", "ratchet"), ("srewdirver", "screwdriver"), ("showre", "shower"), ("showerhead", "shower head")],
)
def test_beyond_doubt_what_was_meant_is_searched_for_alone(typed: str, meant: str) -> None:
    reading = Spelling(ITEMS).read(typed)
    assert reading == (meant, meant, meant)
    assert not reading.in_doubt


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("mens rain jacket", "men"), ("hinges", "hinge"), ("batteries", "battery"), ("Womens coats", "women"),
        ("boxes", "box"), ("brushes", "brush"),
    ],
)  # fmt: skip
def test_a_word_whose_stem_is_known_stays(typed: str, known: str) -> None:
    items = {
        "mews": 9,
        "hinged": 9,
        "batterie": 9,
        "rain": 9,
        "jacket": 9,
        "coats": 9,
        "wombens": 9,
        "boxers": 9,
        "brushed": 9,
    }
    assert Spelling({**items, known: 1}).read(typed).text == typed  # by the catalogue
    assert Spelling(items, is_word=lambda word: word == known).read(typed).text == typed  # by the model


def test_words_of_past_searches_are_known_unless_they_are_slips_in_others() -> None:
    items = {"idea": 9, "toilet": 90, "shelf": 9}
    texts, times = ["ikea shelf", "IKEA", "idea", "toliet", "toilet seat", "billy"], [5, 3, 20, 30, 900, 1]
    asked = words_asked(texts, times, Spelling({}).analyzer)
    assert asked == {"ikea": 8, "shelf": 5, "idea": 20, "toliet": 30, "toilet": 900, "seat": 900}
    spelling = Spelling(items, asked=asked)
    assert spelling.read("ikea shelf").text == "ikea shelf"
    assert spelling.read("toliet").text == "toilet"
    assert Spelling(items, asked={"ikea": ASKED - 1}).read("ikea").in_doubt
    assert Spelling(items, asked={"ikea": ASKED, "idea": ASKED * SLIPS + 1}).read("ikea").in_doubt


@pytest.mark.parametrize("text", ["titanuim 锅", "iphnoe手机壳", "ลิปสตกิ lmap", "ライター lmap", "라면 lmap", "lmap灯"])
def test_a_query_with_words_of_other_scripts_stays(text: str) -> None:
    assert Spelling({**ITEMS, "titanium": 9, "iphone": 9}).read(text).text == text


@pytest.mark.parametrize("language", ["zh", "ja", "th", "ko", "km"])
def test_nothing_is_corrected_in_languages_that_are_not_spelt(language: str) -> None:
    assert Spelling(ITEMS, analyzer=Analyzer(language)).read("rachet").text == "rachet"
    assert Spelling(ITEMS, analyzer=Analyzer("none")).read("rachet").text == "ratchet"


@pytest.mark.parametrize("text", ["litres", "6 Inches", "ounces", "20 Zentimeter", "10 pulgadas"])
def test_units_are_known(text: str) -> None:
    assert Spelling({"litreg": 9, "inched": 9, "ounced": 9, "zentimetes": 9, "pulgadax": 9}).read(text).text == text


def test_words_that_a_model_knows_or_that_came_late_are_not_doubted() -> None:
    assert Spelling(ITEMS, is_word=lambda word: word == "rachet").read("Rachet").meant == "Rachet"
    assert Spelling(ITEMS, extra_words=frozenset({"rachet"})).read("Rachet").meant == "Rachet"


def test_the_counts_are_those_of_the_lexical_index() -> None:
    lexical = Lexical.of(["red ratchet", "ratchet head ratchet", "head", "head"], Analyzer())
    spelling = Spelling.of(lexical.codes, lexical.indptr, lambda _: False, lexical.analyzer)
    assert spelling.items == {
        "red": 1,
        "ratchet": 2,
        "head": 3,
    }
    empty = Lexical.of(["", ""], Analyzer())
    assert Spelling.of(empty.codes, empty.indptr, lambda _: False, empty.analyzer).read("anything").meant == "anything"


def test_what_is_remembered_does_not_grow_without_end() -> None:
    spelling = Spelling(ITEMS)
    letters = [chr(ord("a") + number) for number in range(26)]
    for text in ("".join(np.random.default_rng(seed).choice(letters, 14)) for seed in range(CACHED + 5)):
        spelling._cache[text] = text
    assert spelling.read("rachet").meant == "ratchet"
    assert len(spelling._cache) == 1


@given(st.text(max_size=40))
def test_a_corrected_text_is_not_corrected_again_and_has_no_other_signs(text: str) -> None:
    spelling = Spelling(ITEMS)
    once = spelling.read(text).meant
    assert spelling.read(once).meant == once
    assert [sign for sign in once if not sign.isalnum() and sign != " "] == [
        sign for sign in text if not sign.isalnum() and sign != " "
    ]
    assert all(word in ITEMS for word in set(Analyzer().words(once)) - set(Analyzer().words(text)))
