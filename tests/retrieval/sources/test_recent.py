"""Sources over the last days: nothing of a request's own day or later is read."""

from __future__ import annotations

import numpy as np

from retrieval.data.time_units import DAY
from retrieval.sources.recent import SHRINKAGE, RecentCoOccurrence, RecentPopularity
from retrieval.sources.registry import LaterTakings
from source_requests import N, asked, every_pair, recent_together


def test_recent_popularity_ends_before_the_day_of_the_request() -> None:
    source = RecentPopularity(np.array([1, 1, 2, 2, 2, 9]), np.array([3, 3, 3, 0, 0, 5]), 2)
    hits = source.read(asked([[]] * 4, day=[3, 2, 4, 40])).top(2)
    assert hits.rows.tolist() == [[3, 0], [3, -1], [0, 3], [-1, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([3, 2]), rtol=1e-6)


def test_what_went_together_lately_is_the_cosine_over_the_days_before_the_request() -> None:
    time = np.array([1, 2, 3, 30, 31, 40]) * DAY  # shoppers 0 and 1 take 0 and 1, long ago; shopper 0 takes 2 and 3
    source = RecentCoOccurrence.of(
        time, np.array([0, 0, 1, 0, 0, 1]), np.array([0, 1, 1, 2, 3, 5]), N, days=10, known={}
    )
    hits = source.read(asked([[0], [2], [2], [2]], day=[4, 4, 32, 50])).top(3)
    assert hits.rows.tolist() == [[1, -1, -1], [-1] * 3, [3, -1, -1], [-1] * 3]
    np.testing.assert_allclose(hits.scores[0, 0], np.log1p(1 / np.sqrt((1 + SHRINKAGE) * (2 + SHRINKAGE))), rtol=1e-6)
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
    source = RecentCoOccurrence.of(*(np.empty(0, np.int64),) * 3, N, days=5, known={9: made})
    assert source.similar(9) is made
    assert source.similar(10).nnz == 0


def test_times_become_days() -> None:
    source = RecentPopularity.of(np.array([3 * DAY + 5, DAY]), np.array([1, 2], np.int32), days=2)
    assert (source.day.tolist(), source.item.tolist()) == ([1, 3], [2, 1])


def test_recent_popularity_goes_on_with_what_was_taken_since() -> None:
    source = RecentPopularity(np.array([1, 1, 2, 2, 2, 9]), np.array([3, 3, 3, 0, 0, 5]), 2)
    later = LaterTakings(
        item=np.array([7, 7, 3, 0, 8]),
        day=np.array([3, 3, 2, 2, 1]),
        sign=np.array([1, 1, 1, -1, 1]),
        today=4,
        shift=1,
    )
    hits = source.continued(later).read(asked([[]] * 2, day=[0, 40])).top(9)  # as of now, whatever the request's day
    assert hits.rows.tolist() == [[3, 7, 0, *[-1] * 6]] * 2
    np.testing.assert_allclose(hits.scores[0, :3], np.log1p([4, 2, 1]), rtol=1e-6)


def test_recent_popularity_goes_on_where_nothing_was_taken_since() -> None:
    source, nothing = RecentPopularity(np.array([1, 2, 2]), np.array([3, 3, 0]), 2), np.empty(0, np.int64)
    later = LaterTakings(item=nothing, day=nothing, sign=nothing, today=3, shift=0)
    hits = source.continued(later).read(asked([[]])).top(3)
    assert hits.rows.tolist() == [[3, 0, -1]]
    np.testing.assert_allclose(hits.scores[0, :2], np.log1p([2, 1]), rtol=1e-6)
    none = RecentPopularity(nothing, nothing, 2).continued(later).read(asked([[]])).top(1)
    assert none.rows.tolist() == [[-1]]
