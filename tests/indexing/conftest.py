"""A small bundle and clustered vectors for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version import build as rebuild
from indexing.version import item_columns as columns
from retrieval.topk import Vectors

FILES = {"weights.bin": b"weights of the model", "tokenizer.json": b"{}", "deep/er/config.json": b'{"a": 1}'}


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    """Unit vectors around a few dozen centres, as item vectors are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(40, dim))
    vectors = centres[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def add_part(bundle: Bundle, kind: str, name: str, **extra: object) -> Path:
    """Stage a part of three small files that name it, and add it."""
    with bundle.stage(kind) as folder:
        for path, data in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data + f" {kind}/{name}".encode())
        return bundle.add(kind, name, folder, **extra)  # type: ignore[arg-type]


def add_release(bundle: Bundle, number: int, *, activate: bool = True) -> Release:
    """Record release r<number> with towers, ranker and index of its own; publish it unless told not to."""
    with bundle.lock():
        add_part(bundle, "towers", f"t{number}")
        add_part(bundle, "ranker", f"k{number}")
        add_part(bundle, "index", f"i{number}", requires={"towers": f"t{number}"})
        release = Release(
            id=f"r{number}",
            created=f"2024-01-01T00:00:{number:02d}+00:00",
            towers=f"t{number}",
            ranker=f"k{number}",
            index=f"i{number}",
            figures={"ndcg@10": 0.05},
        )
        return bundle.publish(release) if activate else bundle.record(release)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.create(tmp_path / "bundle")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds in parts that even a small catalogue has several of."""
    monkeypatch.setattr(rebuild, "PART", 128)
    monkeypatch.setattr(columns, "PART", 128)
    monkeypatch.setattr(rebuild, "EMBEDDED_AT_ONCE", 128)


@pytest.fixture
def publish(bundle: Bundle) -> Callable[[int], Release]:
    return lambda number: add_release(bundle, number)
