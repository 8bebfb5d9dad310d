"""The loop that measures indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from indexing.ann.faiss_index import SearchParams
from indexing.ann.faiss_kinds import ladders_for
from indexing.tuning.benchmark_index import BuiltIndex, Meter, exact_point, median_ms
from retrieval.topk import Vectors


def vectors(n: int, dim: int = 16, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def clock_of(seconds: Iterable[float]) -> Callable[[], float]:
    """A clock that shows these times."""
    return iter(seconds).__next__


def test_the_median_of_calls_is_taken_until_the_time_is_over_and_of_a_few_at_least() -> None:
    asked: list[int] = []
    taken = [1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0]
    ends = np.cumsum(taken)
    times = [0.0, *(time for end, took in zip(ends, taken, strict=True) for time in (end - took, end))]
    spent = median_ms(lambda batch: asked.append(len(batch)), [vectors(2), vectors(3)], 0.0, clock_of(times))
    assert spent == 1_000
    assert asked == [2, *[2, 3] * 4]
    longer = [0.0, *(time for call in range(20) for time in (call, call + 1.0))]
    asked.clear()
    median_ms(lambda batch: asked.append(len(batch)), [vectors(1)], 20.0, clock_of(longer))
    assert len(asked) == 1 + 20


def test_a_curve_rises_ends_where_the_recall_is_sure_and_is_whole_if_nothing_is_wanted() -> None:
    items, queries = vectors(2_000), vectors(50, seed=1)
    meter = Meter.over(items, queries, 10, seconds=0.0)
    built = BuiltIndex.over(items, "IVF64,Flat")
    ladders = ladders_for(built.kind)
    whole = list(built.curve(meter, ladders))
    assert [point.params.nprobe for point in whole] == [4, 8, 16, 32, 64]
    assert [point.recall for point in whole] == sorted(point.recall for point in whole)
    assert whole[-1].recall == whole[-1].recall_low == 1
    assert all(point.recall_low <= point.recall for point in whole)
    cut = list(built.curve(meter, ladders, until=0.9))
    assert [point.params for point in cut] == [point.params for point in whole[: len(cut)]]
    assert cut[-1].recall_low >= 0.9 > cut[-2].recall_low


def test_a_point_says_what_it_is_of_and_what_it_reads_of_the_effort() -> None:
    items, queries = vectors(500), vectors(20, seed=1)
    built = BuiltIndex.over(items, "HNSW8")
    point = built.at(SearchParams(ef_search=77), Meter.over(items, queries, 10, seconds=0.0))
    told = point.to_json()
    assert (told["kind"], told["rows"], told["ef_search"], told["bytes"]) == ("HNSW8", 500, 77, built.bytes)
    assert "nprobe" not in told
    assert "params" not in told
    exact = exact_point(items, queries, 10, seconds=0.0)
    assert (exact.kind, exact.recall, exact.bytes) == ("Flat", 1.0, items.nbytes)
