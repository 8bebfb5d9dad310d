"""Filters as text: what they stand for, that any lists can be written so, and how a wrong one is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.version.filter_grammar import MAX_LISTS, parse_text, text_of
from indexing.version.filters import all_of, lists_of
from retrieval.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ("price<20", [[("price", "<", 20)]]),
        ("price < 20 and in_stock = true", [[("price", "<", 20), ("in_stock", "=", True)]]),
        ('brand in (Acme, "Big Co") or price <= 5', [[("brand", "in", ["Acme", "Big Co"])], [("price", "<=", 5)]]),
        ("a = 1 or b = 2 and c = 3", [[("a", "=", 1)], [("b", "=", 2), ("c", "=", 3)]]),
        ("(a = 1 or b = 2) and c = 3", [[("a", "=", 1), ("c", "=", 3)], [("b", "=", 2), ("c", "=", 3)]]),
        ("brand NOT IN ('a', 'b') AND ok != False", [[("brand", "not in", ["a", "b"]), ("ok", "!=", False)]]),
        (r"""title = 'L\'Or\\eal' and "in" = "tr\"ue" """, [[("title", "=", r"L'Or\eal"), ("in", "=", 'tr"ue')]]),
        ("price == -1.5e3", [[("price", "=", -1500.0)]]),
        ('item_id = "123" or item_id = 123', [[("item_id", "=", "123")], [("item_id", "=", 123)]]),
        ("size = 2x4 and since >= 2026-01-05", [[("size", "=", "2x4"), ("since", ">=", "2026-01-05")]]),
        ("brand in () or brand not in []", [[("brand", "in", [])], [("brand", "not in", [])]]),
        ("brand in [Acme, 1]", [[("brand", "in", ["Acme", 1])]]),
        ("カテゴリ = マグ", [[("カテゴリ", "=", "マグ")]]),
        ("n = ١", [[("n", "=", "١")]]),  # a digit, but not one of a number
    ],
)
def test_a_text_stands_for_lists(text: str, lists: list[list[tuple[str, str, object]]]) -> None:
    assert parse_text(text) == lists


@pytest.mark.parametrize(
    ("text", "at", "wanted"),
    [
        ("", "at character 1 is the end", "expected a column"),
        ("price", "at character 6 is the end", "expected one of = == != < <= > >= or in, after the column price"),
        ("price <", "at character 8 is the end", "expected a value"),
        ("price < and x = 1", "at character 9 is and", "put it in quotes"),
        ("price < 20 brand = x", "at character 12 is brand", 'expected "and", "or" or the end'),
        ("price < 20 and", "at character 15 is the end", "expected a column"),
        ("brand in Acme", "at character 10 is Acme", 'expected "("'),
        ("brand in (Acme Co)", "at character 16 is Co", 'expected "," or ")"'),
        ("brand in (Acme,)", "at character 16 is )", "expected a value"),
        ("brand in [Acme)", "at character 15 is )", 'expected "," or "]"'),
        ("brand not Acme", "at character 11 is Acme", 'expected "in"'),
        ('brand = "Acme', "at character 9 is a quote that is not closed", "expected"),
        ("brand = L'Oreal", "at character 10 is a quote that is not closed", "expected"),
        ("(a = 1", "at character 7 is the end", 'expected ")"'),
        ("a = 1)", "at character 6 is )", "expected"),
        ("a ! 1", "at character 3 is '!'", "expected"),
        ("a = null", "at character 5 is null", "put it in quotes"),
        ("a = [1]", "at character 5 is [", "expected"),
    ],
)
def test_a_wrong_text_is_told_with_its_place_and_what_would_be_right(text: str, at: str, wanted: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_text(text)
    told = str(refused.value)
    assert told.startswith(f"filter {text}: {at}; ")
    assert wanted in told


NAMES = st.text(min_size=1, max_size=8)
VALUES = st.text(max_size=8) | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
CONDITIONS = st.tuples(NAMES, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES) | st.tuples(
    NAMES, st.sampled_from(["in", "not in"]), st.lists(VALUES, min_size=1, max_size=3)
)
LISTS = st.lists(st.lists(CONDITIONS, min_size=1, max_size=3), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(lists=LISTS)
def test_any_lists_can_be_written_as_text_and_as_json(lists: list[list[tuple[str, str, object]]]) -> None:
    text = text_of(lists)
    read = parse_text(text)
    assert read == lists
    assert list(map(repr, read)) == list(map(repr, lists))  # 1, 1.0 and True are three things
    assert text_of(read) == text
    assert lists_of(json.dumps(lists)) == lists_of(lists) == lists


@settings(max_examples=100, deadline=None)
@given(
    word=st.sampled_from(["and", "OR", "in", "Not", "true", "null", "1", "-2.5", "[x", "a b", "", "'", '"', "\\", "é"])
)
def test_words_of_the_grammar_are_texts_in_quotes(word: str) -> None:
    assert parse_text(text_of([[(word or "x", "=", word)]])) == [[(word or "x", "=", word)]]


def test_filters_of_every_form_pass_together() -> None:
    forms = ["a = 1 or b = 2", '[["c", "<", 3]]', [("d", "in", ["x"])], [[("e", "=", True)]]]
    rest = [("c", "<", 3), ("d", "in", ["x"]), ("e", "=", True)]
    assert all_of(forms) == [[("a", "=", 1), *rest], [("b", "=", 2), *rest]]
    assert all_of([]) is None


def test_cases_beyond_the_limit_are_refused_before_they_are_made() -> None:
    pairs = " and ".join(f"(a = {n} or b = {n})" for n in range(40))
    with pytest.raises(BadRequest, match=rf"more than {MAX_LISTS}; write COLUMN in"):
        parse_text(pairs)
