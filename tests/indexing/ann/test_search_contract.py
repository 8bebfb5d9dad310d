"""Every kind of index, through the wrapper that serving uses, against exact search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.ann.exact import ExactIndex
from indexing.ann.faiss_index import FaissIndex, SearchParams, import_faiss, search_parameters
from indexing.ann.faiss_kinds import kinds_for
from indexing.ann.guarded import GuardedIndex
from indexing.ann.opening import build_index
from indexing.ann.protocols import VectorIndex
from retrieval.errors import BadConfig, BadRequest
from retrieval.topk import CSR, Hits, Mask, Vectors, exact_topk

N, DIM, K, QUERIES = 10_000, 32, 10, 24
SHARES = (1.0, 0.3, 0.03, 0.003, 0.0001, 0.0)  # of the rows, that a filter allows; the last but one allows a single row

KINDS = {  # factory string: least recall@10 at the worst selectivity
    "Flat": 1.0,
    "SQ8": 0.96,
    "IVF32,Flat": 0.95,
    "IVF32,SQ8": 0.95,
    "PQ16x6": 0.95,
    "PQ16x4fs": 0.95,
    "Pad34,PQ17x4fs": 0.95,
    "IVF32,PQ16x6": 0.95,
    "IVF32,PQ16x4fs": 0.95,
    "RaBitQ": 0.95,
    "RaBitQfs": 0.95,
    "IVF32,RaBitQ": 0.95,
    "IVF32,RaBitQfs": 0.95,
    "PQ16x4fs,RFlat": 0.5,  # FAISS refines four times k hits and no more
    "IVF32,PQ16x4fs,RFlat": 0.5,
    "IVF32,RaBitQ,RFlat": 0.7,
    "IVF32,RQ2x4": 0.0,
    "RR32,IVF32,SQ8": 0.95,
    "HNSW32": 0.95,
    "HNSW32_SQ8": 0.95,
    "Pad48,SQ8": 0.96,
    "Pad48,HNSW32_SQ8": 0.95,
}
SMALL = ("SQ8", "IVF8,SQ8", "HNSW8", "PQ8x4", "IVF8,PQ8x4fs", "IVF8,RaBitQ", "IVF8,PQ8x4fs,RFlat")


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
        hits = super().search(queries, k, allowed=allowed)
        hits.rows[:, 1::2] = -1
        return Hits(hits.rows, hits.scores * 0.5)


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


def obeys(index: FaissIndex, allowed: Mask) -> bool:
    """Whether FAISS keeps to a selector that it is given as every search gives it."""
    faiss = import_faiss()
    selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    try:
        given = search_parameters(faiss, index.raw, index.params, selector)
        _, rows = index.raw.search(ASKED, K, params=given)
    except RuntimeError:
        return False
    return bool(allowed[rows[rows >= 0]].all())


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
        assert recall_of(hits, exact_topk(ASKED, VECTORS, K, allowed=allowed)) >= KINDS[factory]


def test_every_kind_says_of_filters_what_is_found_at_every_selectivity(built: tuple[str, FaissIndex]) -> None:
    backend = built[1]
    masks = [mask_of(share).mask for share in SHARES]
    assert backend.can_filter == all(obeys(backend, mask) for mask in masks)
    if not backend.can_filter:
        with pytest.raises(ValueError, match="cannot filter"):
            backend.search(ASKED, K, allowed=masks[1])


def test_kinds_that_filter_and_kinds_that_do_not_are_both_among_those_that_are_tried() -> None:
    tried = {kind.factory: FaissIndex.build(VECTORS[:2_000], kind.factory) for kind in kinds_for(2_000, DIM)}
    assert {factory for factory, index in tried.items() if not index.can_filter} == {"PQ16x4fs"}
    assert all(index.can_filter == obeys(index, mask_of(0.3).mask[:2_000]) for index in tried.values())


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
    assert recall_of(hits, exact_topk(ASKED, VECTORS, K, exclude=exclude)) >= KINDS[built[0]]


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


def test_coarse_codes_are_refined_among_many_however_few_are_asked_for() -> None:
    backend = SelectorIgnored(max_k=N)
    backend.surplus = 2.0
    index = GuardedIndex(backend, VECTORS)
    index.search(ASKED, 1)
    index.search(ASKED, 300)
    assert backend.asked == [200, 600]


def test_filters_are_over_fetched_in_proportion_and_few_rows_are_searched_exactly() -> None:
    backend = SelectorIgnored(max_k=N)
    index = GuardedIndex(backend, VECTORS, exact_rows=100)
    index.search(ASKED, K, allowed=mask_of(0.3).mask)
    assert backend.asked == [50]  # 10 hits, 1.5 times, out of 0.3
    index.search(ASKED, K, allowed=mask_of(0.01).mask)
    assert backend.asked == [50]
    index.search(ASKED, K, allowed=mask_of(1.0).mask)
    assert backend.asked == [50, 10]  # what allows everything is no filter


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    k=st.integers(1, 40),
    factory=st.sampled_from(SMALL),
)
def test_no_filter_makes_an_answer_short_or_wrong(
    small: dict[str, FaissIndex], data: st.DataObject, k: int, factory: str
) -> None:
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=200, max_size=200)))
    taken = data.draw(st.lists(st.lists(st.integers(0, 199), max_size=60), min_size=3, max_size=3))
    exclude = CSR.from_lists(taken)
    params = SearchParams(nprobe=2, ef_search=8, filtered=data.draw(st.sampled_from([1.0, 4.0])))
    backend = small[factory].with_params(params)
    index = GuardedIndex(backend, VECTORS[:200], exact_rows=data.draw(st.sampled_from([0, 50, 199])))
    hits = index.search(ASKED[:3], k, allowed=allowed, exclude=exclude)
    for query, rows, scores, own in zip(ASKED, hits.rows, hits.scores, taken, strict=False):
        may = set(np.flatnonzero(allowed).tolist()) - set(own)
        found = rows[rows >= 0].tolist()
        assert len(found) == len(set(found)) == min(k, len(may))
        assert set(found) <= may
        np.testing.assert_allclose(scores[: len(found)], VECTORS[found] @ query, atol=1e-5)
        assert (scores[len(found) :] == -np.inf).all()


@pytest.fixture(scope="module")
def small() -> dict[str, FaissIndex]:
    return {factory: FaissIndex.build(VECTORS[:200], factory) for factory in SMALL}


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
    first, again = (build_index(VECTORS, "IVF32,PQ8x4", seed=4).search(ASKED, K) for _ in range(2))
    np.testing.assert_array_equal(first.rows, again.rows)


@pytest.mark.parametrize(
    ("factory", "what"), [("Nope7", "could not parse"), ("IVF16384,Flat", "training points"), ("PQ5", "dimensions")]
)
def test_a_kind_that_cannot_be_built_is_refused_in_one_line(factory: str, what: str) -> None:
    with pytest.raises(BadConfig, match=f"{factory}.*{what}") as caught:
        build_index(VECTORS, factory)
    assert "\n" not in str(caught.value)


def test_vectors_of_another_catalogue_are_a_fault() -> None:
    with pytest.raises(ValueError, match="the index holds"):
        GuardedIndex(SelectorIgnored(), VECTORS[:-1])
