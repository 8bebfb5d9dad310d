"""Updates over a version answer as a version that was built anew from the merged items."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.ann.faiss_index import FaissIndex, SearchParams
from indexing.ann.guarded import GuardedIndex
from indexing.bundle.bundle import Bundle
from indexing.bundle.verify import folder_faults, segment_path
from indexing.version import delta
from indexing.version.build import build_version
from indexing.version.hash_index import hash_keys
from indexing.version.index_version import IndexVersion
from indexing.version.segments import Segment, Upserts, append_segment, write_segment
from retrieval.errors import CorruptBundle
from retrieval.topk import CSR, Hits, Vectors, exact_topk

N, DIM, READ = 40, 4, 6


class Change(NamedTuple):
    """One update: ids with the seed of what they are from now on, and ids to delete."""

    upserts: dict[int, int]
    deletions: list[int]


def readings_of(seeds: Sequence[int]) -> Vectors:
    """Small whole numbers, whose inner products are exact in any order of summing and often equal."""
    return np.stack([np.random.default_rng(seed).integers(-3, 4, READ) for seed in seeds]).astype(np.float32)


def items_of(ids: Sequence[int], seeds: Sequence[int]) -> pa.Table:
    columns = {"item_id": [f"i{one}" for one in ids], "title": [f"title {seed}" for seed in seeds]}
    return pa.table(columns | {"price": pa.array([float(seed % 9) for seed in seeds])})


def upserts_of(changed: dict[int, int]) -> Upserts:
    items = items_of(list(changed), list(changed.values()))
    vectors = readings_of(list(changed.values()))
    return Upserts(items, vectors, vectors[:, :2].copy(), hash_keys(items["title"].to_pylist()))


def append(version: Path, change: Change, scratch: Path) -> Path:
    scratch.mkdir()
    upserts = upserts_of(change.upserts) if change.upserts else None
    write_segment(scratch, upserts, [f"i{one}" for one in change.deletions])
    return append_segment(version, scratch, IndexVersion.open(version, device="cpu").updated().revision + 1)


def built_in(bundle: Bundle, factory: str = "Flat") -> IndexVersion:
    """A version of N items, item i made from seed i."""
    items, vectors = items_of(range(N), range(N)), readings_of(range(N))
    made = build_version(
        bundle,
        items=items,
        texts=items["title"].to_pylist(),
        encode=lambda texts: np.ones((len(texts), 2), np.float32),
        item_vectors=lambda _, part: vectors[[int(one[1:]) for one in part["item_id"].to_pylist()]],
        searched=DIM,
        towers="t1",
        text_encoder="e",
        factory=factory,
        recall_target=0.0,
    )
    return IndexVersion.open(made.path, device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> IndexVersion:
    """One that nobody writes to."""
    return built_in(Bundle.create(tmp_path_factory.mktemp("base") / "bundle"))


changes = st.lists(
    st.builds(
        Change,
        st.dictionaries(st.integers(0, N + 12), st.integers(100, 140), max_size=12),
        st.lists(st.integers(0, N + 14), max_size=12, unique=True),
    ).map(lambda change: Change(change.upserts, [one for one in change.deletions if one not in change.upserts])),
    min_size=1,
    max_size=5,
)


def in_memory(version: IndexVersion, applied: Sequence[Change]) -> IndexVersion:
    for number, change in enumerate(applied, 1):
        upserts = upserts_of(change.upserts) if change.upserts else None
        segment = Segment(number, str(number), upserts, tuple(f"i{one}" for one in change.deletions))
        version = version._with_segment(segment)
    return version


def merged(applied: Sequence[Change]) -> tuple[dict[int, int], dict[int, int]]:
    """The seed of every item that may be answered, and the row of every item there ever was."""
    alive, rows = {one: one for one in range(N)}, {one: one for one in range(N)}
    for change in applied:
        alive |= change.upserts
        for one in change.upserts:
            rows.setdefault(one, len(rows))
        for one in change.deletions:
            alive.pop(one, None)
    return alive, rows


def anew(alive: dict[int, int], rows: dict[int, int], queries: Vectors, k: int, **limits: object) -> Hits:
    """Exact search over the merged items alone, in the order of their rows."""
    ordered = sorted(alive, key=lambda one: rows[one])
    at = np.array([rows[one] for one in ordered] + [-1])
    vectors = readings_of([alive[one] for one in ordered])[:, :DIM] if ordered else np.empty((0, DIM), np.float32)
    mask, exclude = limits.get("allowed"), limits.get("exclude")
    if mask is not None:
        mask = mask[at[:-1]]  # type: ignore[index]
    if isinstance(exclude, CSR):
        position = {row: place for place, row in enumerate(at[:-1].tolist())}
        lists = np.split(exclude.rows, exclude.indptr[1:-1])
        exclude = CSR.from_lists([[position[row] for row in one.tolist() if row in position] for one in lists])
    hits = exact_topk(queries, vectors, k, allowed=mask, exclude=exclude)  # type: ignore[arg-type]
    return Hits(at[hits.rows], hits.scores)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(applied=changes, seed=st.integers(0, 1_000), k=st.sampled_from([1, 5, 30, 80]), graph=st.booleans())
def test_an_updated_version_answers_as_one_built_anew(
    base: IndexVersion, applied: list[Change], seed: int, k: int, graph: bool
) -> None:
    rng = np.random.default_rng(seed)
    version = in_memory(graphed(base) if graph else base, applied)
    alive, rows = merged(applied)
    queries = readings_of(rng.integers(0, 500, 3).tolist())[:, :DIM]
    exclude = CSR.from_lists([np.unique(rng.integers(0, version.size, 4)) for _ in range(3)])
    mask = rng.random(version.size) < 0.4
    assert version.size == len(rows)
    for limits in ({}, {"exclude": exclude}, {"allowed": mask}, {"allowed": mask, "exclude": exclude}):
        found, wanted = version.search(queries, k, **limits), anew(alive, rows, queries, k, **limits)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        if not graph:  # which may find any of several that are tied at the edge
            np.testing.assert_array_equal(found.rows, wanted.rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(applied=changes)
def test_every_row_is_read_as_it_is_now(base: IndexVersion, applied: list[Change]) -> None:
    version = in_memory(base, applied)
    alive, rows = merged(applied)
    ids = list(rows)
    at = version.rows_of([f"i{one}" for one in ids])
    np.testing.assert_array_equal(at, list(rows.values()))
    assert version.rows_of(["i999", "nobody"]).tolist() == [-1, -1]
    assert version.ids_of(at) == [f"i{one}" for one in ids] == version.ids.take(pa.array(at)).to_pylist()
    answerable = version.answerable()
    assert [one for one in ids if answerable is None or answerable[rows[one]]] == [one for one in ids if one in alive]
    now = np.array([rows[one] for one in alive], np.int64)
    np.testing.assert_array_equal(version.readings_at(now), readings_of(list(alive.values())) if alive else now)
    np.testing.assert_array_equal(version.vectors_at(now), version.readings_at(now)[:, :DIM])
    assert version.values_at("title", now).to_pylist() == [f"title {seed}" for seed in alive.values()]
    cheap = version.by_row(np.array(version.stored["price"].to_pylist()) < 4)
    assert cheap[now].tolist() == [seed % 9 < 4 for seed in alive.values()]


def test_few_dead_rows_cost_no_mask_and_many_in_front_still_leave_a_whole_answer(
    base: IndexVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = readings_of([7])[:, :DIM]
    first = base.search(queries, 25).rows[0]
    masks: list[bool] = []
    search = type(base.index).search

    def recorded(self: object, *args: object, **options: object) -> Hits:
        masks.append(options.get("allowed") is not None)
        return search(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(base.index), "search", recorded)
    few = in_memory(base, [Change({}, first[:2].tolist())])
    assert few.search(queries, 5).rows[0].tolist() == first[2:7].tolist()
    monkeypatch.setattr(delta, "SURPLUS", 1)
    many = in_memory(base, [Change({}, first[:20].tolist())])
    assert many.search(queries, 5).rows[0].tolist() == first[20:25].tolist()
    assert masks == [False, False, True]


def test_updates_are_read_from_the_disk_once_each(bundle: Bundle, tmp_path: Path) -> None:
    version = built_in(bundle)
    assert version.updated() is version
    steps = [Change({3: 103, 50: 150}, [4]), Change({}, [50, 60]), Change({4: 104}, [])]
    for number, change in enumerate(steps):
        append(version.folder, change, tmp_path / str(number))
    once = version.updated()
    assert (once.revision, once.updated() is once) == (3, True)
    assert once.values_at("title", np.array([3, 4, 5, 40])).to_pylist() == [
        "title 103",
        "title 104",
        "title 5",
        "title 150",
    ]
    answerable = once.answerable()
    assert answerable is not None
    assert answerable[[4, 40]].tolist() == [True, False]
    assert not list(folder_faults(version.folder, version.manifest))


def test_a_torn_changed_missing_or_foreign_update_is_named(bundle: Bundle, tmp_path: Path) -> None:
    version = built_in(bundle)
    for number in range(3):
        append(version.folder, Change({number: 100 + number}, [30 + number]), tmp_path / str(number))
    folder = version.folder

    def faults() -> list[str]:
        return [f"{fault.path.relative_to(folder)} {fault.what}" for fault in folder_faults(folder, version.manifest)]

    assert version.updated().revision == 3
    assert not faults()
    second = segment_path(folder, 2)
    whole = (second / "vectors.npy").read_bytes()
    (second / "vectors.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert faults() == ["delta/000002/vectors.npy changed"]
    with pytest.raises(CorruptBundle, match=r"delta/000002/vectors.npy is changed"):
        version.updated()
    (second / "vectors.npy").write_bytes(whole)
    third = segment_path(folder, 3)
    third.rename(segment_path(folder, 4))
    assert faults() == ["delta/000003 missing"]
    shutil.rmtree(segment_path(folder, 4))
    shutil.copytree(second, third)
    assert faults() == ["delta/000003/manifest.json out of order"]
    with pytest.raises(CorruptBundle, match=r"update 3 of .*out of order"):
        version.updated()
    shutil.rmtree(third)
    (folder / "delta" / "notes.txt").write_text("mine")
    assert faults() == ["delta/notes.txt additional"]


def test_a_version_that_was_updated_is_not_taken_for_one_built_anew(bundle: Bundle, tmp_path: Path) -> None:
    first = built_in(bundle)
    assert built_in(bundle).folder == first.folder
    append(first.folder, Change({1: 101}, [2]), tmp_path / "one")
    second = built_in(bundle)
    assert second.folder != first.folder
    assert second.updated() is second
    append(second.folder, Change({}, [3]), tmp_path / "two")
    assert built_in(bundle).folder not in (first.folder, second.folder)


def test_an_update_of_another_version_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    one, other = built_in(bundle), built_in(bundle, "SQ8")
    assert one.folder != other.folder
    shutil.copytree(append(one.folder, Change({1: 101}, []), tmp_path / "scratch"), segment_path(other.folder, 1))
    with pytest.raises(CorruptBundle, match="out of order"):
        other.updated()


def graphed(version: IndexVersion) -> IndexVersion:
    """The same with a graph for an index, which is searched so hard that it finds all."""
    vectors = np.ascontiguousarray(version.vectors)
    graph = FaissIndex.build(vectors, "HNSW16,Flat", params=SearchParams(ef_search=200))
    return replace(version, index=GuardedIndex(graph, vectors, exact_rows=0))
