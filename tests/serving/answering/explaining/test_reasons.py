"""What a shopper reads beside an item: what they did or asked for that brought it there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval.data.dataset import DataSet
from retrieval.text.analysis import Analyzer
from serving.answering.explaining.leave_one_out import query_words
from serving.answering.explaining.reasons import held_words
from serving.engine import Engine
from serving.request import Answer, Hit


@pytest.fixture(scope="module")
def plain(engine: Engine) -> Engine:
    """The release ordered by its sources alone."""
    return Engine(replace(engine.state, scores=frozenset(), steps=()))


def told(hit: Hit) -> list[str]:
    assert hit.explanation is not None
    return [reason.text() for reason in hit.explanation.reasons]


def all_told(answer: Answer) -> list[str]:
    return [line for hit in answer.items for line in told(hit)]


def test_what_was_done_with_the_items_of_a_history_is_said(plain: Engine, data: DataSet) -> None:
    bought, seen = data.item_ids[4], data.item_ids[40]
    title = plain.titles([bought])[0]
    answer = plain.recommend(history=[bought], explain=True, filter_seen=True)
    assert f"because you bought {title}" in all_told(answer)
    looked = plain.recommend(history=[(seen, "view", None)], explain=True, filter_seen=False, k=40)
    own = next(hit for hit in looked.items if hit.item_id == seen)
    assert told(own)[0] == "you looked at it before"
    assert f"because you looked at {plain.titles([seen])[0]}" in all_told(looked)


def test_an_item_goes_with_what_is_in_the_cart(plain: Engine, data: DataSet) -> None:
    baskets = plain.state.user_store.similarities["baskets"]()
    cart = data.item_ids[int(np.diff(baskets.indptr).argmax())]  # that of most baskets
    answer = plain.complete_cart([cart], explain=True)
    assert f"goes with {plain.titles([cart])[0]} in your cart" in all_told(answer)


def test_a_similar_item_is_like_the_one_that_was_named(plain: Engine, data: DataSet) -> None:
    item = data.item_ids[4]
    answer = plain.similar(item, explain=True, k=4)
    assert [told(hit)[0] for hit in answer.items] == [f"like {plain.titles([item])[0]}"] * 4


def test_popular_items_are_said_to_be_popular(plain: Engine) -> None:
    first, *others = plain.recommend(explain=True, k=60).items
    assert told(first) == ["popular this week"]
    assert ["popular"] in [told(hit) for hit in others]


def test_an_item_that_is_named_by_its_id_is_what_was_searched_for(plain: Engine, data: DataSet) -> None:
    answer = plain.search(data.item_ids[30], explain=True, k=2)
    assert told(answer.items[0])[0] == "the very item that you searched for"
    assert "the very item that you searched for" not in told(answer.items[1])


def test_the_words_that_an_item_has_of_a_query_are_named(plain: Engine, data: DataSet) -> None:
    title = plain.titles([data.item_ids[30]])[0]
    noun, word = title.split()[1:3]
    answer = plain.search(f"{noun} {word} xylophone", explain=True, k=5, spellcheck=False)
    hit = next(hit for hit in answer.items if hit.item_id == data.item_ids[30])
    (line,) = [line for line in told(hit) if line.startswith("matches: ")]
    assert set(line.removeprefix("matches: ").split(", ")) == {noun, word}


@pytest.mark.parametrize(
    ("query", "text", "held"),
    [
        ("oak boxes 120 cm", "Box of solid oak, 1200 mm", ["oak", "boxes", "120 cm"]),
        ("oak shelf 120 cm", "Pine shelf, 120 pieces", ["shelf"]),
        ("红色连衣裙", "夏季红色雪纺连衣裙", ["红色", "连衣裙"]),
        ("红色连衣裙", "蓝色衬衫", []),
        ("Straße", "strasse", ["Straße"]),
    ],
)
def test_words_are_held_in_any_form_and_unit(query: str, text: str, held: list[str]) -> None:
    assert held_words(query_words(query), text, Analyzer("de" if query == "Straße" else "en")) == held


def test_words_of_a_query_are_read_with_their_units() -> None:
    assert [word.text for word in query_words("Oak shelf, 1.5 l 30x40 cm")] == ["Oak", "shelf", "1.5 l", "30x40 cm"]
    assert not query_words(" - ")
