"""The index that a catalogue gets, beside exact search; the vectors that are made for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.result_lines import read
from benchmarks.vector_index.run import generate_vectors, load_vectors
from benchmarks.vector_index.synthetic import item_vectors
from benchmarks.vector_index.tuned import SHARES, TunedRun
from retrieval.errors import BadData
from retrieval.topk import exact_topk

N, DIM = 3_000, 32


def test_made_vectors_have_neighbours_and_do_not_depend_on_anything_but_the_seed() -> None:
    given = generate_vectors(N, DIM, seed=3)
    np.testing.assert_array_equal(given.items, generate_vectors(N, DIM, seed=3).items)
    assert not np.array_equal(given.items, generate_vectors(N, DIM, seed=4).items)
    assert (given.items.dtype, given.items.shape) == (np.float32, (N, DIM))
    assert given.queries.shape[1] == DIM
    for vectors in given[:2]:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    noise = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    tenth, nowhere = (exact_topk(items[:50], items, 11).scores[:, 10].mean() for items in (given.items, noise))
    assert tenth > nowhere + 0.1


def test_made_vectors_are_made_in_blocks_that_leave_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.vector_index.synthetic.BLOCK", 700)
    found = item_vectors(N, DIM, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_an_index_in_less_memory_finds_what_is_wanted_alone_and_under_every_filter() -> None:
    given = generate_vectors(N, DIM, seed=0)
    run = TunedRun(items=given.items, queries=given.queries[:80], target=0.9, memory=N * DIM, seconds=0.0)
    whole, *filtered = run.lines()
    assert whole.measured == "tuned index"
    assert whole.labels["kind"] != "Flat"
    assert whole.summary["recall@100"] >= 0.85  # type: ignore[operator]
    assert 0 < whole.summary["MB"] <= N * DIM / 1e6  # type: ignore[operator]
    assert [line.labels["drawn"] for line in filtered[:: len(SHARES)]] == ["at random", "alike", "unlike"]
    assert [line.labels["items"] for line in filtered] == ["3,000", "900", "90", "9", "1"] * 3
    assert all(line.summary["disallowed"] == 0 for line in filtered)
    assert all(line.summary["recall@10"] >= 0.8 for line in filtered)  # type: ignore[operator]
    assert all(line.summary["recall@10"] == 1 for line in filtered if line.labels["items"] in ("9", "1"))


def test_saved_vectors_are_mapped_and_others_refused(tmp_path: Path) -> None:
    items, queries = tmp_path / "items.npy", tmp_path / "queries.npy"
    np.save(items, np.ones((5, 4), np.float32))
    np.save(queries, np.ones((2, 4), np.float32))
    given = load_vectors(items, queries)
    assert (given.items.shape, given.queries.shape, given.name) == ((5, 4), (2, 4), "items.npy")
    np.save(queries, np.ones((2, 3), np.float32))
    with pytest.raises(BadData, match=r"items\.npy has vectors of 4 dimensions, .*queries\.npy of 3"):
        load_vectors(items, queries)
    np.save(queries, np.ones(4))
    with pytest.raises(BadData, match=r"holds float64 \[4\]; save vectors as float32 \[n, dim\]"):
        load_vectors(items, queries)
    queries.write_bytes(b"no array")
    with pytest.raises(BadData, match="cannot be read"):
        load_vectors(items, queries)


def test_the_command_takes_two_files_or_none(tmp_path: Path) -> None:
    items, out = tmp_path / "items.npy", tmp_path / "results.jsonl"
    np.save(items, generate_vectors(1_000, 8, seed=0).items)
    alone = CliRunner().invoke(bench, ["tuning", "--vectors", str(items)])
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    options = [
        "tuning",
        "--vectors",
        str(items),
        "--queries",
        str(items),
        "--quick",
        "--seconds",
        "0",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(bench, options)
    assert done.exit_code == 0, done.output
    assert "tuned index, filtered" in done.stdout
    assert len(read(out)) == 1 + 3 * len(SHARES)
