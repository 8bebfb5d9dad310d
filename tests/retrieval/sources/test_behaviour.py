"""Candidate sources: what each proposes, what it leaves out, and that one score says the same in both ways."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from retrieval.sources.behaviour import (
    DAY,
    LONGEST_QUERY,
    Asked,
    CoOccurrence,
    Lexical,
    LookedAt,
    OwnFrequency,
    TakenBefore,
    best_of_lists,
)
from retrieval.sources.recent import DOUBT, RecentPopularity, RecentTogether
from retrieval.text.words import words
from retrieval.topk import CSR

N = 6


def asked(history: list[list[int]], day: list[int] | None = None, texts: list[str] | None = None) -> Asked:
    lists = CSR.from_lists(history)
    n = len(history)
    return Asked(lists, lists, lists, np.array(day or [0] * n, np.int64), texts or [""] * n)


def every_pair(n: int) -> CSR:
    return CSR.from_lists([list(range(N))] * n)


@pytest.fixture
def together() -> CoOccurrence:
    similar = np.zeros((N, N), np.float32)
    similar[0, 1], similar[0, 2], similar[1, 2], similar[3, 2] = 0.5, 0.25, 0.5, 1.0
    return CoOccurrence(csr_array(similar))


def test_what_goes_with_a_history_is_the_sum_over_its_distinct_items(together: CoOccurrence) -> None:
    hits = together.read(asked([[0, 0, 1], [5]])).top(3)
    assert hits.rows.tolist() == [[2, 1, -1], [-1, -1, -1]]
    np.testing.assert_allclose(hits.scores[0, :2], np.log1p([0.75, 0.5]), rtol=1e-6)


def test_what_came_right_after_is_asked_of_the_last_event_alone() -> None:
    after = np.zeros((N, N), np.float32)
    after[0, 1], after[2, 3], after[2, 4] = 9, 1, 3
    hits = CoOccurrence(csr_array(after), reads=1).read(asked([[0, 2], [2, 0], []])).top(2)
    assert hits.rows.tolist() == [[4, 3], [1, -1], [-1, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([3, 1]), rtol=1e-6)


def test_own_frequency_counts_what_was_taken(together: CoOccurrence) -> None:
    hits = OwnFrequency().read(asked([[4, 1, 4], [], [2]])).top(2)
    assert hits.rows.tolist() == [[4, 1], [-1, -1], [2, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([2, 1]), rtol=1e-6)
    assert TakenBefore().read(asked([[4, 1, 4]])).top(2).scores.tolist() == [[1, 1]]


def test_what_was_looked_at_last_stands_first() -> None:
    hits = LookedAt().read(asked([[4, 1, 3], [], [2, 0]])).top(3)
    assert hits.rows.tolist() == [[3, 1, 4], [-1] * 3, [0, 2, -1]]
    np.testing.assert_allclose(hits.scores[0], [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_recent_popularity_ends_before_the_day_of_the_request() -> None:
    source = RecentPopularity(np.array([1, 1, 2, 2, 2, 9]), np.array([3, 3, 3, 0, 0, 5]), 2)
    hits = source.read(asked([[]] * 4, day=[3, 2, 4, 40])).top(2)
    assert hits.rows.tolist() == [[3, 0], [3, -1], [0, 3], [-1, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([3, 2]), rtol=1e-6)


def recent_together(n: int = 60, seed: int = 0) -> RecentTogether:
    rng = np.random.default_rng(seed)
    time, user, item = rng.integers(0, 20 * DAY, n), rng.integers(0, 6, n), rng.integers(0, N, n)
    return RecentTogether.of(time, user, item, N, days=5, known={})


def test_what_went_together_lately_is_the_cosine_over_the_days_before_the_request() -> None:
    time = np.array([1, 2, 3, 30, 31, 40]) * DAY  # shoppers 0 and 1 take 0 and 1, long ago; shopper 0 takes 2 and 3
    source = RecentTogether.of(time, np.array([0, 0, 1, 0, 0, 1]), np.array([0, 1, 1, 2, 3, 5]), N, days=10, known={})
    hits = source.read(asked([[0], [2], [2], [2]], day=[4, 4, 32, 50])).top(3)
    assert hits.rows.tolist() == [[1, -1, -1], [-1] * 3, [3, -1, -1], [-1] * 3]
    np.testing.assert_allclose(hits.scores[0, 0], np.log1p(1 / np.sqrt((1 + DOUBT) * (2 + DOUBT))), rtol=1e-6)
    assert source.read(asked([[2]], day=[31])).top(1).rows.tolist() == [[-1]], "nothing of the request's own day"


def test_requests_of_several_days_are_answered_each_as_of_its_own() -> None:
    source, days = recent_together(), [9, 18, 9, 3]
    histories = [[1], [1, 2], [3], []]
    together = source.read(asked(histories, day=days)).at(every_pair(4)).reshape(4, N)
    for line, (history, day) in enumerate(zip(histories, days, strict=True)):
        alone = recent_together().read(asked([history], day=[day])).at(every_pair(1))
        np.testing.assert_array_equal(together[line], alone)


def test_days_that_are_known_are_not_made_again() -> None:
    made = recent_together().similar(9)
    source = RecentTogether.of(*(np.empty(0, np.int64),) * 3, N, days=5, known={9: made})
    assert source.similar(9) is made
    assert source.similar(10).nnz == 0


def test_lexical_adds_up_the_words_of_the_query_and_passes_over_unknown_ones() -> None:
    source = Lexical(
        {"red": 0, "mug": 1}, np.array([0, 2, 4]), np.array([0, 3, 1, 3], np.int32), np.array([1, 2, 3, 1], np.float32)
    )
    hits = source.read(asked([[]] * 3, texts=["Red MUG, please", "lamp", ""])).top(3)
    assert hits.rows.tolist() == [[1, 3, 0], [-1] * 3, [-1] * 3]
    assert hits.scores[0].tolist() == [3.0, 3.0, 1.0]


def test_a_document_in_place_of_a_query_is_read_from_its_beginning() -> None:
    source = Lexical({"red": 0, "mug": 1}, np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2, np.float32))
    hits = source.read(asked([[]], texts=["red " * LONGEST_QUERY + "mug " * 9_000])).top(2)
    assert hits.rows.tolist() == [[0, -1]]
    assert hits.scores[0, 0] == LONGEST_QUERY


@pytest.mark.parametrize("name", ["together", "own", "looked", "recent", "lately", "lexical"])
def test_a_source_scores_a_pair_as_it_scores_its_best(name: str, together: CoOccurrence) -> None:
    rng = np.random.default_rng(3)
    days = np.sort(rng.integers(0, 5, 40))
    sources = {
        "together": together,
        "own": OwnFrequency(),
        "looked": LookedAt(),
        "recent": RecentPopularity(days, rng.integers(0, N, 40), 2),
        "lately": recent_together(),
        "lexical": Lexical(
            {"a": 0, "b": 1}, np.array([0, 3, 5]), np.array([0, 1, 4, 1, 2], np.int32), np.ones(5, np.float32)
        ),
    }
    scored = sources[name].read(asked([[1, 0], [3], [0, 2, 4]], day=[1, 3, 3], texts=["a b", "b", "c"]))
    hits, dense = scored.top(N), scored.at(every_pair(3)).reshape(3, N)
    for line in range(3):
        shown = hits.rows[line] >= 0
        assert set(hits.rows[line][shown]) == set(np.flatnonzero(dense[line] > 0))
        np.testing.assert_array_equal(hits.scores[line][shown], dense[line][hits.rows[line][shown]])
        assert (np.diff(hits.scores[line][shown]) <= 0).all()


def test_excluded_rows_make_room_for_the_next() -> None:
    source = RecentPopularity(np.array([1, 1, 1, 1, 1, 1]), np.array([3, 3, 3, 0, 0, 5]), 7)
    scored = source.read(asked([[], []], day=[2, 2]))
    assert scored.top(2, CSR.from_lists([[3], []])).rows.tolist() == [[0, 5], [3, 0]]
    own = OwnFrequency().read(asked([[1, 1, 2], [2]]))
    assert own.top(1, CSR.from_lists([[1], [2]])).rows.tolist() == [[2], [-1]]


def test_equal_scores_go_by_row() -> None:
    lists = CSR.from_lists([[5, 2, 4], [1]])
    ones = np.ones(4, np.float32)
    assert best_of_lists(lists, ones, 2).rows.tolist() == [[2, 4], [1, -1]]
    assert best_of_lists(lists, ones, 2, then=np.array([0, 1, 2, 0], np.float32)).rows.tolist() == [[4, 2], [1, -1]]


def test_times_become_days() -> None:
    source = RecentPopularity.of(np.array([3 * DAY + 5, DAY]), np.array([1, 2], np.int32), days=2)
    assert (source.day.tolist(), source.item.tolist()) == ([1, 3], [2, 1])


def test_lexical_scores_are_those_of_the_library() -> None:
    import bm25s

    texts = ["red mug", "blue mug mug", "a red lamp, 40w", ""]
    library = bm25s.BM25()
    library.index([[*words(text), ""] for text in texts], show_progress=False)
    found = Lexical.of(texts).read(Asked.of_texts(["mug red mug", "40 w", "nothing"]))
    dense = found.at(CSR.from_lists([list(range(4))] * 3)).reshape(3, 4)
    np.testing.assert_allclose(dense[0], library.get_scores(["mug", "red", "mug"]), rtol=1e-6)
    np.testing.assert_allclose(dense[1], library.get_scores(["40", "w"]), rtol=1e-6)
    assert not dense[2].any()


def test_a_plural_finds_the_one_and_the_one_the_plural() -> None:
    source = Lexical.of(["door hinge", "door hinges", "glass boxes", "batteries", "gas"])
    asked = ["hinges", "HINGE", "box", "battery", "gases", "glasses"]
    found = source.read(Asked.of_texts(asked)).lists
    rows = [found.rows[found.indptr[line] : found.indptr[line + 1]].tolist() for line in range(len(asked))]
    assert rows == [[0, 1], [0, 1], [2], [3], [], [2]]
    assert set(source.codes) == {
        "", "door", "hinge", "hinges", "glass", "boxes", "box", "batteries", "battery", "gas"
    }  # fmt: skip
    assert source.codes["hinge"] == source.codes["hinges"]


def test_words_of_a_release_before_stems_are_read_as_they_were() -> None:
    source = Lexical({"hinges": 0, "door": 1}, np.array([0, 1, 2]), np.array([0, 0], np.int32), np.ones(2, np.float32))
    assert source.read(Asked.of_texts(["hinges", "doors", "hinge"])).lists.indptr.tolist() == [0, 1, 2, 2]
