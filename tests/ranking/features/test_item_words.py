"""The words of items that query features read: by field, once, the same however many are kept at hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ranking.features import item_words
from ranking.features.item_words import ItemWords, code_of, idf
from retrieval.text.analysis import Analyzer

ITEMS = pa.table(
    {
        "title": ["Red mugs, 4in", None, "Drill"],
        "category": [["Home", "Mugs"], None, ["Tools"]],
        "description": ["x" * 199 + " beyond", "Steel", None],
    }
)


def stems(codes: np.ndarray, *known: str) -> list[str]:
    return [{code_of(one): one for one in known}[code] for code in codes.tolist()]


def test_titles_and_other_fields_are_read_apart() -> None:
    words = ItemWords(ITEMS, Analyzer())
    titles = words.at("title", [2, 0, 1, 0])
    assert titles.indptr.tolist() == [0, 1, 5, 5, 9]
    assert stems(titles.rows[1:5], "red", "mug", "4", "101.6mm") == ["red", "mug", "4", "101.6mm"]
    fields = words.at("fields", [0, 1, 2])
    assert stems(fields.rows[:2], "home", "mug") == ["home", "mug"]
    assert np.diff(fields.indptr).tolist() == [3, 1, 1]  # what is far behind in a description is not read


def test_what_is_forgotten_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_words, "REMEMBERED", 1)
    words, wanted = ItemWords(ITEMS, Analyzer()), ItemWords(ITEMS, Analyzer())
    for rows in ([0], [1, 2], [0, 1, 2], [2, 0]):
        np.testing.assert_array_equal(words.at("title", rows).rows, ItemWords(ITEMS, Analyzer()).at("title", rows).rows)
    assert words.usual_lengths == wanted.usual_lengths == {"title": 5 / 3, "fields": 5 / 3}


def test_a_shop_without_items_or_columns_has_no_words() -> None:
    bare = ItemWords(pa.table({"title": pa.array([], pa.string())}), Analyzer())
    assert bare.at("title", []).n_lists == 0
    assert bare.usual_lengths == {"title": 1.0, "fields": 1.0}
    assert ItemWords(ITEMS.select(["title"]), Analyzer()).at("fields", [0, 1]).rows.size == 0


def test_a_rare_word_says_more_than_a_common_one() -> None:
    count = {"mug": 9, "argan": 1}
    assert idf("argan", count.__getitem__, 10) > idf("mug", count.__getitem__, 10) > 0
    assert idf("mug", lambda _: 99, 10) > 0  # counted before items went
