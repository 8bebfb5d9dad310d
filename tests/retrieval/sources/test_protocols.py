"""What holds of every source: one score both ways, what is left out, and how ties go."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.sources.behaviour import InCart, OwnFrequency, RecentlyBrowsed
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import best_of_lists
from retrieval.sources.recent import RecentPopularity
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR
from source_requests import N, asked, co_occurrence, every_pair, recent_together


@pytest.mark.parametrize("name", ["together", "own", "looked", "carted", "recent", "lately", "lexical"])
def test_a_source_scores_a_pair_as_it_scores_its_best(name: str) -> None:
    rng = np.random.default_rng(3)
    days = np.sort(rng.integers(0, 5, 40))
    sources = {
        "together": co_occurrence(),
        "own": OwnFrequency(),
        "looked": RecentlyBrowsed(),
        "carted": InCart(),
        "recent": RecentPopularity(days, rng.integers(0, N, 40), 2),
        "lately": recent_together(),
        "lexical": Lexical(
            {"a": 0, "b": 1},
            np.array([0, 3, 5]),
            np.array([0, 1, 4, 1, 2], np.int32),
            np.ones(5, np.float32),
            Analyzer(),
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
    tie_breaker = np.array([0, 1, 2, 0], np.float32)
    assert best_of_lists(lists, ones, 2, tie_breaker=tie_breaker).rows.tolist() == [
        [4, 2],
        [1, -1],
    ]


@pytest.mark.parametrize("tied", [False, True])
def test_the_best_are_those_of_a_whole_sort(tied: bool) -> None:
    random = np.random.default_rng(0)
    lists = CSR.from_lists([np.sort(random.choice(90, size, replace=False)) for size in (0, 1, 40, 7, 90, 3)])
    for k in (1, 5, 60, 120):
        scores = random.normal(size=len(lists.rows)).astype(np.float32)
        scores = np.round(scores) if tied else scores
        scores[random.random(len(scores)) < 0.1] = -np.inf
        breaker = np.round(random.normal(size=len(scores))).astype(np.float32)
        for tie_breaker in (None, breaker):
            found = best_of_lists(lists, scores, k, tie_breaker=tie_breaker)
            for line in range(lists.n_lists):
                part = slice(lists.indptr[line], lists.indptr[line + 1])
                ties = [0.0] * len(lists.rows[part]) if tie_breaker is None else (-tie_breaker[part]).tolist()
                wanted = sorted(zip((-scores[part]).tolist(), ties, lists.rows[part].tolist(), strict=True))
                wanted = [one for one in wanted if one[0] < np.inf][:k]
                padding = k - len(wanted)
                assert found.rows[line].tolist() == [row for *_, row in wanted] + [-1] * padding
                assert found.scores[line].tolist() == [-score for score, *_ in wanted] + [-np.inf] * padding
