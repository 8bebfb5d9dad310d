"""BM25 of a query's words: scores as the library's, plurals, unknown words, long texts."""

from __future__ import annotations

import numpy as np

from retrieval.sources.lexical import LONGEST_QUERY, Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR
from source_requests import asked


def test_lexical_adds_up_the_words_of_the_query_and_passes_over_unknown_ones() -> None:
    source = Lexical(
        {"red": 0, "mug": 1},
        np.array([0, 2, 4]),
        np.array([0, 3, 1, 3], np.int32),
        np.array([1, 2, 3, 1], np.float32),
        Analyzer(),
    )
    hits = source.read(asked([[]] * 3, texts=["Red MUG, please", "lamp", ""])).top(3)
    assert hits.rows.tolist() == [[1, 3, 0], [-1] * 3, [-1] * 3]
    assert hits.scores[0].tolist() == [3.0, 3.0, 1.0]


def test_a_document_in_place_of_a_query_is_read_from_its_beginning() -> None:
    source = Lexical(
        {"red": 0, "mug": 1}, np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32), Analyzer()
    )
    hits = source.read(asked([[]], texts=["red " * LONGEST_QUERY + "mug " * 9_000])).top(2)
    assert hits.rows.tolist() == [[0, -1]]
    assert hits.scores[0, 0] == LONGEST_QUERY


def test_lexical_scores_are_those_of_the_library() -> None:
    import bm25s

    texts = ["red mug", "blue mug mug", "a red lamp, 40w", ""]
    library = bm25s.BM25(k1=1.2, b=0.75)
    library.index([[*Analyzer().words(text), ""] for text in texts], show_progress=False)
    found = Lexical.of(texts, Analyzer()).read(RequestBatch.of_texts(["mug red mug", "40 watt", "nothing"]))
    dense = found.at(CSR.from_lists([list(range(4))] * 3)).reshape(3, 4)
    np.testing.assert_allclose(dense[0], library.get_scores(["mug", "red", "mug"]), rtol=1e-6)
    np.testing.assert_allclose(dense[1], library.get_scores(["40", "40w"]), rtol=1e-6)
    assert not dense[2].any()


def test_a_plural_finds_the_one_and_the_one_the_plural() -> None:
    source = Lexical.of(["door hinge", "door hinges", "glass boxes", "batteries", "gas"], Analyzer())
    asked = ["hinges", "HINGE", "box", "battery", "gases", "glasses"]
    found = source.read(RequestBatch.of_texts(asked)).lists
    rows = [found.rows[found.indptr[line] : found.indptr[line + 1]].tolist() for line in range(len(asked))]
    assert rows == [[0, 1], [0, 1], [2], [3], [], [2]]
    assert set(source.codes) == {
        "door", "hinge", "hinges", "glass", "boxes", "box", "batteries", "battery", "gas"
    }  # fmt: skip
    assert source.codes["hinge"] == source.codes["hinges"]


def test_words_of_a_release_before_stems_are_read_as_they_were() -> None:
    source = Lexical(
        {"hinges": 0, "door": 1}, np.array([0, 1, 2]), np.array([0, 0], np.int32), np.ones(2, np.float32), Analyzer()
    )
    assert source.read(RequestBatch.of_texts(["hinges", "doors", "hinge"])).lists.indptr.tolist() == [0, 1, 2, 2]


def test_items_with_a_word_are_counted_by_its_stem() -> None:
    source = Lexical.of(["red mugs", "a blue mug, a mug", "lamp"], Analyzer())
    counted = {word: source.items_with(word) for word in ("mug", "mugs", "red", "lamps", "drill")}
    assert counted == {"mug": 2, "mugs": 2, "red": 1, "lamps": 1, "drill": 0}
