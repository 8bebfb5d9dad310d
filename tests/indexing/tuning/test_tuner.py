"""The choice of a kind and of its search parameters, by measuring."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from indexing.ann.faiss_index import SearchParams
from indexing.ann.faiss_kinds import Kind, kinds_for
from indexing.tuning import tuner as tune
from indexing.tuning.benchmark_index import BuiltIndex, Point
from indexing.tuning.tuner import Trial, Tuner, fastest, most_promising
from retrieval.errors import BadConfig
from retrieval.topk import Vectors

N, DIM, K = 1_500, 16, 10


def unheard(stage: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def vectors(n: int, seed: int = 0) -> Vectors:
    """Unit vectors around a few dozen centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(40, DIM))
    found = centres[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def tuner(n: int = N, **changes: object) -> Tuner:
    given = {"vectors": vectors(n), "queries": vectors(40, seed=1), "k": K, "target": 0.9, "seconds": 0.0}
    return Tuner(**(given | changes))  # type: ignore[arg-type]


def point(recall: float, recall_low: float, milliseconds: float) -> Point:
    return Point("SQ8", SearchParams(), N, recall, recall_low, milliseconds, 1, 0.0)


def trial(family: str, expected: float, size: int) -> Trial:
    kind = Kind(family, family, "scan", size)
    return Trial(kind, BuiltIndex(family, None, size, 0.0), (), expected)  # type: ignore[arg-type]


@pytest.fixture
def nothing_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "SCAN_BYTES", 0)


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(tune, "SAMPLE_ROWS", 1_100)
    return 1_100


def test_the_quickest_of_those_that_surely_reach_the_target_is_taken() -> None:
    near, sure, slow = point(0.96, 0.94, 1), point(0.97, 0.955, 3), point(0.99, 0.98, 5)
    assert fastest([near, slow, sure], 0.95) == sure
    assert fastest([near], 0.95) == near  # nothing is sure of it
    assert fastest([near, sure], 0.99) is None


def test_kinds_are_built_in_the_order_of_their_promise_and_of_quick_ones_the_smallest_first() -> None:
    quick, small, slow = trial("quick", 1.0, 900), trial("small", 1.2, 100), trial("slow", 2.0, 10)
    unfit = trial("unfit", np.inf, 1)
    assert most_promising([slow, quick, unfit, small]) == [small, quick, slow]
    assert most_promising([unfit]) == []


def test_a_small_catalogue_is_scanned_without_building_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.BuiltIndex, "over", None)
    chosen = tuner().choose(unheard)
    assert (chosen.kind, chosen.index) == ("Flat", None)
    assert [one.kind for one in chosen.curve] == ["Flat"]
    assert "quick enough" in chosen.why


def test_a_catalogue_that_does_not_fit_the_memory_gets_a_kind_that_does() -> None:
    memory = N * DIM * 2
    chosen = tuner(memory=memory).choose(unheard)
    assert chosen.index is not None
    assert chosen.index.nbytes == chosen.point.bytes <= memory
    assert chosen.point.recall >= 0.9
    assert chosen.index.params == chosen.point.params
    assert {one.kind for one in chosen.curve} <= {"Flat", *(k.factory for k in kinds_for(N, DIM) if k.bytes <= memory)}
    assert f"{chosen.kind} at " in chosen.why or chosen.kind == "SQ8"
    assert "over the memory of 48.0 kB: HNSW32_SQ8" in chosen.why


def test_exact_search_remains_where_nothing_reaches_the_target_in_the_memory() -> None:
    least = min(kind.bytes for kind in kinds_for(N, DIM))
    chosen = tuner(memory=least, target=0.9999).choose(unheard)
    assert (chosen.kind, chosen.index, chosen.point.recall) == ("Flat", None, 1.0)
    assert "nothing else reaches recall@10 of 0.9999 sooner; the best was" in chosen.why
    assert {one.kind for one in chosen.curve} != {"Flat"}
    tiny = tuner(memory=10).choose(unheard)
    assert tiny.kind == "Flat"
    assert [one.kind for one in tiny.curve] == ["Flat"]


@pytest.mark.usefixtures("nothing_is_scanned")
def test_what_is_no_quicker_than_exact_search_is_not_taken() -> None:
    clock = (float(tick) for tick in count())
    chosen = tuner(clock=clock.__next__).choose(unheard)
    assert chosen.kind == "Flat"


@pytest.mark.usefixtures("nothing_is_scanned")
def test_only_one_kind_is_built_whole_where_a_sample_stands_for_the_others(small_samples: int) -> None:
    heard: list[tuple[str, int, int]] = []
    n = 2_500
    chosen = tuner(n, memory=n * DIM * 3).choose(lambda *step: heard.append(step))
    whole = {one.kind for one in chosen.curve if one.rows == n}
    assert whole == {"Flat", chosen.kind}
    tried = {one.kind for one in chosen.curve if one.rows == small_samples}
    assert len(tried) == 5
    assert all("IVF256" not in kind for kind in tried)  # cells are of the sample's own number
    assert heard == [*(("choose", done, 5) for done in range(6)), ("index", 0, n)]


def test_a_person_who_looks_sees_every_effort_of_every_kind_and_the_same_choice() -> None:
    chosen = tuner(thorough=True).choose(unheard)
    assert chosen.kind == "Flat"
    assert "quick enough" in chosen.why
    assert {one.kind for one in chosen.curve} == {"Flat", *(kind.factory for kind in kinds_for(N, DIM))}
    probes = {one.params.nprobe for one in chosen.curve if one.kind == "IVF128,SQ8"}
    assert probes == {4, 8, 16, 32, 64, 128}


def test_the_effort_is_fitted_between_the_one_that_misses_and_the_one_that_reaches() -> None:
    chosen = tuner(target=0.99).fit("IVF128,Flat")
    assert chosen.point.recall >= 0.99
    probes = [one.params.nprobe for one in chosen.curve]
    doubled = [4 * 2**step for step in range(len(probes))]
    climbed = [one for one, whole in zip(probes, doubled, strict=True) if one == whole]
    between = probes[len(climbed) :]
    assert between
    assert all(climbed[-2] < one < climbed[-1] for one in between)


def test_a_kind_that_is_asked_for_is_taken_at_its_best_whatever_it_reaches() -> None:
    chosen = tuner(target=0.9999).fit("SQ4")
    assert chosen.kind == "SQ4"
    assert chosen.point.recall < 0.9999
    assert chosen.why.startswith("set; SQ4: recall@10 0.")
    assert tuner().fit("Flat").index is None
    with pytest.raises(BadConfig, match="Nope"):
        tuner().fit("Nope")
