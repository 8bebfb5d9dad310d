"""Items are tokenised once, when they are indexed; scores stay byte for byte what they were from the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.item_tokens import ItemTokenColumn, ItemTokens, StoredTokens, token_fingerprint
from ranking.models.pair_tokens import PairTokenizer
from retrieval.text.rendering import item_texts
from retrieval.topk import Hits, Rows

TITLES = ["steel mug", "", "red drill " * 60, "argan oil mask", "x", "small wood chair", "\x00 strange ünï code"]
ITEMS = pa.table({"title": TITLES, "brand": ["acme", None, None, "moro", None, "acme", None]})


@pytest.fixture(scope="module")
def scorer(tiny_ranker_folder: Path) -> CrossEncoderScorer:
    return CrossEncoderScorer.load(tiny_ranker_folder, runtime="torch", device="cpu")


@pytest.fixture(scope="module")
def stored(scorer: CrossEncoderScorer) -> StoredTokens:
    """The column in parts of three rows, as an index stores it."""
    column = ItemTokenColumn(scorer.tokenizer)
    return StoredTokens.of(pa.chunked_array([column.compute(ITEMS, at, min(at + 3, 7)) for at in (0, 3, 6)]))


def texts_of(rows: Rows) -> list[str]:
    return item_texts(ITEMS.take(pa.array(rows)))


def refuse(rows: Rows) -> list[str]:
    raise AssertionError(f"the texts of {rows} were asked for")


def test_stored_tokens_are_those_of_the_text_whatever_part_they_lie_in(
    scorer: CrossEncoderScorer, stored: StoredTokens
) -> None:
    rows = np.array([6, 0, 2, 3, 2, 1])
    wanted = scorer.tokenizer.encode(texts_of(rows), "item")
    found = ItemTokens(scorer.tokenizer, refuse, stored)(rows)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.indptr, wanted.indptr)
    assert found.ids.dtype == wanted.ids.dtype


def test_scores_from_stored_tokens_are_byte_for_byte_those_from_texts(
    scorer: CrossEncoderScorer, stored: StoredTokens
) -> None:
    hits = Hits(np.array([[2, 0, 6, 1], [5, 3, -1, -1]]), np.zeros((2, 4), np.float32))
    users = ["red mug " * 30, "oil"]
    stored_ones = scorer.score_shortlists(users, ItemTokens(scorer.tokenizer, refuse, stored), hits, depth=4)
    made = scorer.score_shortlists(users, ItemTokens(scorer.tokenizer, texts_of), hits, depth=4)
    np.testing.assert_array_equal(stored_ones, made)
    assert np.isfinite(made).sum() == 6


def test_rows_that_an_update_changed_are_tokenised_from_their_text(
    scorer: CrossEncoderScorer, stored: StoredTokens
) -> None:
    def texts(rows: Rows) -> list[str]:
        return [f"large lamp {row}" for row in rows]

    rows = np.array([7, 1, 3, 0])  # row 7 came later, row 1 was changed
    found = ItemTokens(scorer.tokenizer, texts, stored, lambda asked: ~np.isin(asked, (1, 7)))(rows)
    wanted = scorer.tokenizer.encode(["large lamp 7", "large lamp 1", *texts_of(np.array([3, 0]))], "item")
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.indptr, wanted.indptr)


def test_ids_are_stored_in_two_bytes_where_they_fit(scorer: CrossEncoderScorer) -> None:
    assert ItemTokenColumn(scorer.tokenizer).compute(ITEMS, 0, 2).type == pa.list_(pa.uint16())


def test_the_fingerprint_follows_the_tokenizer_and_the_length_that_it_keeps(tiny_ranker_folder: Path) -> None:
    one, same = (PairTokenizer.load(tiny_ranker_folder) for _ in range(2))
    assert token_fingerprint(one) == token_fingerprint(same) == ItemTokenColumn(one).fingerprint
    shorter = PairTokenizer(one._tokenizer, max_length=one.max_length - 1)
    assert token_fingerprint(shorter) != token_fingerprint(one)
