"""What training texts lose and how they are mistyped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.rendering import Item, item_text
from retrieval.text.typos import field_loss, misspelt, misspelt_query, word_drop


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def changed(before: str, after: str) -> list[str]:
    """The words that differ, as they were."""
    return [old for old, new in zip(before.split(), after.split(), strict=True) if old != new]


@given(text=st.text("abcdefxyz ", min_size=1).filter(str.strip), seed=st.integers(0, 2**32 - 1))
def test_a_text_that_has_to_change_does_so_in_one_word(text: str, seed: int) -> None:
    assert len(changed(text, misspelt(text, rng(seed), always=True))) == 1


@given(text=st.text("ab1 ", min_size=1), words=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_as_many_long_words_change_as_there_are_and_no_other(text: str, words: int, seed: int) -> None:
    found = changed(text, misspelt(text, rng(seed), words))
    long = [word for word in text.split() if len(word) >= 4 and word.isalpha()]
    assert len(found) == min(words, len(long))
    assert set(found) <= set(long)


@pytest.mark.parametrize("text", ["dog bed 18v", "mp3400 4000", "", "m8x1.25"])
def test_short_words_and_numbers_are_never_misspelt(text: str) -> None:
    assert all(misspelt_query(text, rng(seed)) == text for seed in range(20))


def test_a_slip_is_a_letter_dropped_doubled_swapped_or_missed() -> None:
    found = {misspelt("drill", rng(seed)) for seed in range(400)}
    dropped = {"dill", "drll", "dril"}
    doubled = {"drrill", "driill", "drilll"}
    swapped = {"dirll", "drlil"}
    missed = {"dtill", "droll", "drikl"}
    assert found == dropped | doubled | swapped | missed


def test_a_query_has_one_typo_or_two_and_the_same_from_the_same_seed() -> None:
    query = "cordless drill 18v with case"
    counts = [len(changed(query, misspelt_query(query, rng(seed)))) for seed in range(400)]
    assert set(counts) == {1, 2}
    assert 0.2 < np.mean([count == 2 for count in counts]) < 0.4
    assert [misspelt_query(query, rng(seed)) for seed in range(9)] == [
        misspelt_query(query, rng(seed)) for seed in range(9)
    ]


def test_one_word_is_dropped_and_a_single_word_stays() -> None:
    found = {word_drop("red steel mug", rng(seed)) for seed in range(50)}
    assert found == {"steel mug", "red mug", "red steel"}
    assert word_drop("mug", rng()) == "mug"
    assert word_drop("", rng()) == ""


def test_fields_are_lost_one_by_one_and_the_title_never() -> None:
    text = item_text(Item(title="Mug", brand="Acme", category="Kitchen", price=7.5, description="Holds tea."))
    assert field_loss(text, 0.0, rng()) == text
    assert field_loss(text, 1.0, rng()) == "Mug"
    random = rng()
    found = [field_loss(text, 0.3, random) for _ in range(2000)]
    assert all(one.startswith("Mug") for one in found)
    for field in ("Acme", "Kitchen", "price 5 to 10", "Holds tea."):
        assert np.mean([field not in one for one in found]) == pytest.approx(0.3, abs=0.05)
    assert len(set(found)) == 2**4
