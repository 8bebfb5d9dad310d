"""Misspelt words: which are doubted, and what they are taken for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.sources.lexical import Lexical
from retrieval.text.analysis import Analyzer
from retrieval.text.spelling import CACHED, FEWEST_ITEMS, PART_ITEMS, Spelling

ITEMS = {
    "ratchet": 9, "screwdriver": 12, "screwdrivers": 3, "shower": 40, "head": 60, "led": 80, "bulb": 30, "cream": 8,
    "gream": 90, "lamp": 5, "rare": 1, "tap": 50, "tape": 9, "caps": 9, "лампа": 7,
}  # fmt: skip


def test_an_unknown_word_is_taken_for_the_nearest_and_the_rest_stays_as_typed() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.corrected("Rachet SCREWDRIVER, 1/4in") == "ratchet SCREWDRIVER, 1/4in"
    assert spelling.corrected("the srewdirver") == "the screwdriver"  # a letter short and two swapped
    assert spelling.corrected("лямпа") == "лампа"
    assert spelling.corrected("") == ""


@pytest.mark.parametrize(
    "text", ["shower head", "tpa", "lmp", "12345", "x9y8z7w6", "totally elsewhere", "灯泡灯泡灯炮"]
)
def test_known_short_far_and_unspelt_words_stay(text: str) -> None:
    assert Spelling({**ITEMS, "灯泡灯泡灯泡": 9}).corrected(text) == text


def test_a_short_word_is_allowed_one_slip_and_a_long_one_two() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.corrected("showre") == "shower"  # a swap is one
    assert spelling.corrected("shoewrr") == "shoewrr"
    assert spelling.corrected("scrwedrver") == "screwdriver"


def test_the_first_letter_decides_before_how_many_items_have_a_word() -> None:
    assert Spelling(ITEMS).corrected("craem") == "cream"
    assert Spelling(ITEMS).corrected("creaam") == "cream"
    assert Spelling(ITEMS).corrected("dream") == "gream"
    assert Spelling({"cable": 3, "carle": 7}).corrected("catle") == "carle"
    assert Spelling({"cable": 3, "tale": 90}).corrected("cale") == "cable"


def test_two_words_written_as_one_are_parted_where_no_word_is_one_slip_away() -> None:
    spelling = Spelling(ITEMS)
    assert spelling.corrected("showerhead") == "shower head"
    assert spelling.corrected("LEDbulb") == "led bulb"
    assert spelling.corrected("headrare") == "headrare"  # one of them is rare
    assert spelling.corrected("capstape") == "capstape"  # of words that few items have, anything could be made
    assert Spelling({**ITEMS, "caps": PART_ITEMS, "tape": PART_ITEMS}).corrected("capstape") == "caps tape"
    assert Spelling({**ITEMS, "showerheads": 2}).corrected("showerhead") == "showerheads"


def test_what_hardly_any_item_is_called_was_not_cache() -> None:
    assert Spelling({"ratchet": FEWEST_ITEMS - 1}).corrected("rachet") == "rachet"
    assert Spelling({"ratchet": FEWEST_ITEMS}).corrected("rachet") == "ratchet"


def test_a_plural_of_a_known_word_is_no_misspelling() -> None:
    assert Spelling(ITEMS).corrected("lamps ratchets") == "lamps ratchets"
    lexical = Lexical.of(["hinges", "hinges", "hinge"], Analyzer())
    spelling = Spelling.of(lexical.codes, lexical.indptr, lambda _: False, lexical.analyzer)
    assert spelling.items == {"hinge": 3, "hinges": 3}
    assert spelling.corrected("hingges") == "hinges"


def test_words_that_a_model_knows_or_that_came_late_are_not_doubted() -> None:
    assert Spelling(ITEMS, is_word=lambda word: word == "rachet").corrected("Rachet") == "Rachet"
    assert Spelling(ITEMS, extra_words=frozenset({"rachet"})).corrected("Rachet") == "Rachet"


def test_the_counts_are_those_of_the_lexical_index() -> None:
    lexical = Lexical.of(["red ratchet", "ratchet head ratchet", "head", "head"], Analyzer())
    spelling = Spelling.of(lexical.codes, lexical.indptr, lambda _: False, lexical.analyzer)
    assert spelling.items == {
        "red": 1,
        "ratchet": 2,
        "head": 3,
    }
    empty = Lexical.of(["", ""], Analyzer())
    assert Spelling.of(empty.codes, empty.indptr, lambda _: False, empty.analyzer).corrected("anything") == "anything"


def test_what_is_remembered_does_not_grow_without_end() -> None:
    spelling = Spelling(ITEMS)
    letters = [chr(ord("a") + number) for number in range(26)]
    for text in ("".join(np.random.default_rng(seed).choice(letters, 14)) for seed in range(CACHED + 5)):
        spelling._cache[text] = text
    assert spelling.corrected("rachet") == "ratchet"
    assert len(spelling._cache) == 1


@given(st.text(max_size=40))
def test_a_corrected_text_is_not_corrected_again_and_has_no_other_signs(text: str) -> None:
    spelling = Spelling(ITEMS)
    once = spelling.corrected(text)
    assert spelling.corrected(once) == once
    assert [sign for sign in once if not sign.isalnum() and sign != " "] == [
        sign for sign in text if not sign.isalnum() and sign != " "
    ]
    assert all(word in ITEMS for word in set(Analyzer().words(once)) - set(Analyzer().words(text)))
