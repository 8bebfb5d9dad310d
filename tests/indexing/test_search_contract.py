"""Every kind of index, through the wrapper that serving uses, against exact search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.exact import ExactIndex
from indexing.faiss_index import FaissIndex
from indexing.guarded import GuardedIndex
from indexing.index import Backend, VectorIndex
from indexing.opening import build_index
from retrieval.errors import BadConfig, BadRequest
from retrieval.topk import CSR, Hits, Mask, Vectors, exact_topk

N, DIM, K, QUERIES = 2_000, 32, 10, 24
SHARES = (1.0, 0.3, 0.03, 0.003, 0.0)

KINDS = {  # factory string: does it filter by itself, least recall@10 of the worst selectivity
    "Flat": (True, 1.0),
    "SQ8": (True, 0.97),
    "IVF32,Flat": (True, 0.95),
    "IVF32,SQ8": (True, 0.95),
    "PQ16": (False, 0.9),
    "IVF32,PQ16": (True, 0.85),
    "PQ16x4fs,RFlat": (False, 0.8),
    "IVF32,PQ16x4fs,RFlat": (True, 0.8),
    "IVF32,RaBitQ,RFlat": (True, 0.75),
    "RR32,IVF32,SQ8": (True, 0.95),
    "HNSW32": (True, 0.95),
    "HNSW32_SQ8": (True, 0.95),
}


def clustered(n: int, dim: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(40, dim))
    vectors = centres[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(N, DIM, seed=1)
ASKED = clustered(QUERIES, DIM, seed=2)


class SelectorIgnored:
    """A Backend that cannot filter and answers few hits a query, as a GPU index does, over exact search."""

    is_exact = False
    can_filter = False
    surplus = 1.0
    placement = "nowhere"
    size = N
    dim = DIM

    def __init__(self, max_k: int = 2_048) -> None:
        self.max_k = max_k
        self.asked: list[int] = []

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        assert allowed is None
        assert k <= self.max_k
        self.asked.append(k)
        return exact_topk(queries, VECTORS, k)


class Forgetful(SelectorIgnored):
    """A Backend that leaves every second place empty, as a graph with few allowed rows does, and scores wrongly."""

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        rows, scores = super().search(queries, k, allowed=allowed)
        rows[:, 1::2] = -1
        return Hits(rows, scores * 0.5)


class Sparse(NamedTuple):
    """A mask over the catalogue, and how many rows it allows."""

    mask: Mask
    count: int


def mask_of(share: float, seed: int = 0) -> Sparse:
    mask = np.random.default_rng(seed).permutation(N) < round(share * N)
    return Sparse(mask, int(mask.sum()))


@pytest.fixture(scope="module", params=list(KINDS))
def built(request: pytest.FixtureRequest) -> tuple[str, FaissIndex]:
    return request.param, FaissIndex.build(VECTORS, request.param, seed=0)


def assert_whole(hits: Hits, allowed: Mask | None, count: int, k: int = K) -> None:
    """Shape, types, nothing disallowed, nothing twice, never too few, exact scores in order."""
    assert hits.rows.shape == hits.scores.shape == (QUERIES, k)
    assert (hits.rows.dtype, hits.scores.dtype) == (np.int64, np.float32)
    filled = hits.rows >= 0
    assert (filled.sum(axis=1) == min(k, count)).all()
    assert (filled[:, :-1] >= filled[:, 1:]).all()
    assert allowed is None or allowed[hits.rows[filled]].all()
    assert all(len(set(rows[kept])) == kept.sum() for rows, kept in zip(hits.rows, filled, strict=True))
    assert (hits.scores[~filled] == -np.inf).all()
    exact = np.einsum("qkd,qd->qk", VECTORS[hits.rows], ASKED)
    np.testing.assert_allclose(hits.scores[filled], exact[filled], atol=1e-5)
    ordered = np.where(filled, hits.scores, -9)
    assert (ordered[:, :-1] >= ordered[:, 1:]).all()


def recall_of(hits: Hits, truth: Hits) -> float:
    pairs = zip(hits.rows, truth.rows, strict=True)
    return float(np.mean([len(set(found) & set(true) - {-1}) / max(1, (true >= 0).sum()) for found, true in pairs]))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("few", [0, 4_096], ids=["index-asked", "few-rows-exact"])
def test_every_kind_answers_whole_at_every_selectivity(built: tuple[str, FaissIndex], share: float, few: int) -> None:
    factory, backend = built
    allowed, count = mask_of(share)
    index = GuardedIndex(backend, VECTORS, exact_rows=few)
    hits = index.search(ASKED, K, allowed=allowed)
    assert_whole(hits, allowed, count)
    if count:
        assert recall_of(hits, exact_topk(ASKED, VECTORS, K, allowed=allowed)) >= KINDS[factory][1]


def test_every_kind_says_whether_it_filters_and_means_it(built: tuple[str, FaissIndex]) -> None:
    factory, backend = built
    allowed, _ = mask_of(0.2)
    assert backend.can_filter == KINDS[factory][0]
    if backend.can_filter:
        rows = backend.search(ASKED, K, allowed=allowed).rows
        assert allowed[rows[rows >= 0]].all()
    else:
        with pytest.raises(ValueError, match="cannot filter"):
            backend.search(ASKED, K, allowed=allowed)


def test_only_a_flat_index_calls_itself_exact(built: tuple[str, FaissIndex]) -> None:
    factory, backend = built
    assert backend.is_exact == (factory == "Flat")
    assert GuardedIndex(backend, VECTORS).is_exact == backend.is_exact


def test_every_kind_leaves_out_each_query_s_own_rows(built: tuple[str, FaissIndex]) -> None:
    index = GuardedIndex(built[1], VECTORS, exact_rows=0)
    best = exact_topk(ASKED, VECTORS, 7).rows
    exclude = CSR.from_lists([rows[: i % 8] for i, rows in enumerate(best)])
    hits = index.search(ASKED, K, exclude=exclude)
    assert_whole(hits, None, N)
    for i, rows in enumerate(hits.rows):
        assert not set(rows) & set(best[i, : i % 8])
    assert recall_of(hits, exact_topk(ASKED, VECTORS, K, exclude=exclude)) >= KINDS[built[0]][1]


@pytest.mark.parametrize("make", [SelectorIgnored, Forgetful])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("max_k", [K, 64, N])
def test_an_index_that_ignores_filters_is_filtered_and_completed(
    make: type[SelectorIgnored], share: float, max_k: int
) -> None:
    allowed, count = mask_of(share)
    exclude = CSR.from_lists([list(range(i)) for i in range(QUERIES)])
    index: VectorIndex = GuardedIndex(make(max_k), VECTORS, exact_rows=0)
    truth = exact_topk(ASKED, VECTORS, K, allowed=allowed)
    hits = index.search(ASKED, K, allowed=allowed)
    assert_whole(hits, allowed, count)
    if make is SelectorIgnored or max_k == K:
        np.testing.assert_array_equal(hits.rows, truth.rows)
    without = index.search(ASKED, K, allowed=allowed, exclude=exclude)
    left = [int(allowed[i:].sum()) for i in range(QUERIES)]
    assert (np.count_nonzero(without.rows >= 0, axis=1) == np.minimum(K, left)).all()
    assert all((rows[rows >= 0] >= i).all() for i, rows in enumerate(without.rows))


def test_filters_are_over_fetched_in_proportion_and_few_rows_are_searched_exactly() -> None:
    backend = SelectorIgnored(max_k=N)
    index = GuardedIndex(backend, VECTORS, exact_rows=100)
    index.search(ASKED, K, allowed=mask_of(0.3).mask)
    assert backend.asked == [50]  # 10 hits, 1.5 times, out of 0.3
    index.search(ASKED, K, allowed=mask_of(0.04).mask)
    assert backend.asked == [50]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    k=st.integers(1, 40),
    factory=st.sampled_from(["IVF8,SQ8", "HNSW8", "PQ8x4", "IVF8,PQ8x4fs,RFlat"]),
)
def test_no_filter_makes_an_answer_short_or_wrong(
    small: dict[str, Backend], data: st.DataObject, k: int, factory: str
) -> None:
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=200, max_size=200)))
    taken = data.draw(st.lists(st.lists(st.integers(0, 199), max_size=60), min_size=3, max_size=3))
    exclude = CSR.from_lists(taken)
    index = GuardedIndex(small[factory], VECTORS[:200], exact_rows=data.draw(st.sampled_from([0, 50])))
    hits = index.search(ASKED[:3], k, allowed=allowed, exclude=exclude)
    for rows, own in zip(hits.rows, taken, strict=True):
        may = set(np.flatnonzero(allowed).tolist()) - set(own)
        found = rows[rows >= 0].tolist()
        assert len(found) == len(set(found)) == min(k, len(may))
        assert set(found) <= may


@pytest.fixture(scope="module")
def small() -> dict[str, Backend]:
    kinds = ["IVF8,SQ8", "HNSW8", "PQ8x4", "IVF8,PQ8x4fs,RFlat"]
    return {factory: FaissIndex.build(VECTORS[:200], factory) for factory in kinds}


def test_exact_search_is_a_vector_index_like_the_others() -> None:
    index: VectorIndex = ExactIndex(VECTORS)
    assert (index.is_exact, index.can_filter, index.size, index.dim) == (True, True, N, DIM)
    for share in SHARES:
        allowed, count = mask_of(share)
        assert_whole(index.search(ASKED, K, allowed=allowed), allowed, count)


def test_more_than_there_is_comes_padded_and_less_than_one_is_refused(built: tuple[str, FaissIndex]) -> None:
    index = GuardedIndex(built[1], VECTORS)
    assert_whole(index.search(ASKED, N + 5), None, N, k=N + 5)
    with pytest.raises(BadRequest, match="k is 0"):
        index.search(ASKED, 0)


def test_the_same_seed_builds_the_same_index() -> None:
    first, again = (build_index(VECTORS, "IVF32,PQ8", seed=4).search(ASKED, K) for _ in range(2))
    np.testing.assert_array_equal(first.rows, again.rows)


@pytest.mark.parametrize(
    ("factory", "what"), [("Nope7", "could not parse"), ("IVF4096,Flat", "training points"), ("PQ5", "dimensions")]
)
def test_a_kind_that_cannot_be_built_is_refused_in_one_line(factory: str, what: str) -> None:
    with pytest.raises(BadConfig, match=f"{factory}.*{what}") as caught:
        build_index(VECTORS, factory)
    assert "\n" not in str(caught.value)


def test_vectors_of_another_catalogue_are_a_fault() -> None:
    with pytest.raises(ValueError, match="the index holds"):
        GuardedIndex(SelectorIgnored(), VECTORS[:-1])
