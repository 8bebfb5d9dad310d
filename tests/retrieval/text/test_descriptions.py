"""Sentences that a tenth of the catalogue shares are left out, the same of every item, however it is read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval.text.descriptions import boilerplate_of, sentences, shared_sentences, with_boilerplate, without_shared
from retrieval.text.rendering import ItemTexts, item_texts

SHIPPING, OWN = "Free shipping on all orders!", "Glazed by hand in batch {n}."


def catalogue(n: int = 100, shared: int = 12) -> pa.Table:
    told = [f"{SHIPPING} {OWN.format(n=at)}" if at < shared else OWN.format(n=at) for at in range(n)]
    return pa.table({"item_id": [f"i{at}" for at in range(n)], "title": ["Mug"] * n, "description": told})


@pytest.mark.parametrize(
    ("shared", "n", "found"), [(10, 100, True), (9, 100, False), (5, 20, True), (4, 20, False), (4, 4, False)]
)
def test_a_tenth_of_the_catalogue_and_no_fewer_than_five_make_boilerplate(shared: int, n: int, found: bool) -> None:
    assert shared_sentences(catalogue(n, shared)["description"].to_pylist()) == (
        ("free shipping on all orders",) if found else ()
    )


@pytest.mark.parametrize("sentence", ["approx.", "Blue.", "XL", "蓝色。"])
def test_short_parts_are_never_boilerplate(sentence: str) -> None:
    assert shared_sentences([f"{sentence} Own sentence of number {at}." for at in range(50)]) == ()


def test_a_sentence_of_a_script_without_blanks_can_be_boilerplate() -> None:
    told = [f"全场满九十九元包邮。第{at}款手工制作的杯子。" for at in range(50)]
    assert shared_sentences(told) == ("全场满九十九元包邮",)
    assert without_shared(told[3], set(shared_sentences(told))) == "第3款手工制作的杯子。"


def test_case_blanks_and_punctuation_make_no_other_sentence() -> None:
    told = ["FREE  shipping today!", "• free shipping today", "Free\tshipping today.", "– Free shipping today –"] * 3
    assert shared_sentences(told) == ("free shipping today",)


def test_a_sentence_counts_once_an_item() -> None:
    assert shared_sentences(["Very good mug. " * 20, *["Other words here."] * 4, *[None] * 5]) == ()


def test_the_order_of_items_has_no_meaning() -> None:
    told = catalogue()["description"].to_pylist()
    assert shared_sentences(told[::-1]) == shared_sentences(told)


def test_models_read_what_an_item_tells_alone() -> None:
    table = with_boilerplate(catalogue())
    assert item_texts(table)[3] == "Mug | Glazed by hand in batch 3."
    assert item_texts(catalogue())[3] == "Mug | Free shipping on all orders! Glazed by hand in batch 3."
    assert table["description"].to_pylist() == catalogue()["description"].to_pylist()


def test_any_selection_of_the_table_reads_alike() -> None:
    table = with_boilerplate(catalogue())
    whole, rows = item_texts(table), np.array([7, 3])
    assert item_texts(table.take(pa.array(rows))) == [whole[7], whole[3]]
    assert item_texts(table.slice(5, 2)) == whole[5:7]
    assert ItemTexts(table)[5:7] == whole[5:7]
    later = pa.table(table.slice(0, 1).columns, schema=table.schema)
    assert item_texts(pa.concat_tables([table, later]))[-1] == whole[0]


def test_a_catalogue_without_descriptions_has_no_boilerplate() -> None:
    assert boilerplate_of(with_boilerplate(pa.table({"title": ["Mug"] * 20}))) == frozenset()


def test_sentences_end_where_a_reader_ends_them() -> None:
    assert sentences("Holds 1.5 l. Safe!\nBlue • Red") == ["Holds 1.5 l.", "Safe!", "Blue", "Red"]
