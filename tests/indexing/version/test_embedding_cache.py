"""What a job has embedded: kept in whole parts, found again by the hash of the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexing.version.embedding_cache import PartStore, TextSource, find_vectors, first_of_each, gather
from indexing.version.hash_index import hash_keys
from retrieval.topk import Vectors

DIM = 4


def vectors_of(texts: list[str], seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(len(texts), DIM)).astype(np.float32)


def found_in(store: PartStore, texts: list[str]) -> list[bool]:
    found: list[bool] = find_vectors(hash_keys(texts), [*store.sources()]).found.tolist()
    return found


def test_what_was_added_is_found_by_another_store_of_the_folder(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    vectors = vectors_of(texts)
    PartStore(tmp_path / "texts").add(hash_keys(texts[:2]), vectors[:2])
    PartStore(tmp_path / "texts").add(hash_keys(texts[2:]), vectors[2:])
    sources = [*PartStore(tmp_path / "texts").sources()]
    asked = ["c", "a", "b", "a"]
    np.testing.assert_array_equal(gather(find_vectors(hash_keys(asked), sources), sources), vectors[[2, 0, 1, 0]])
    assert found_in(PartStore(tmp_path / "texts"), ["b", "x"]) == [True, False]


def test_nothing_is_found_where_nothing_was_added(tmp_path: Path) -> None:
    assert [*PartStore(tmp_path / "none").sources()] == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda data: data[:-1] + b"\x01", lambda data: b""])
def test_a_part_that_is_cut_short_or_changed_is_passed_over(tmp_path: Path, damage: object) -> None:
    store = PartStore(tmp_path)
    store.add(hash_keys(["a"]), vectors_of(["a"]))
    store.add(hash_keys(["b"]), vectors_of(["b"], 1))
    (first, _) = (path for path in sorted(tmp_path.glob("*.npy")))
    first.write_bytes(damage(first.read_bytes()))  # type: ignore[operator]
    assert sum(found_in(store, ["a", "b"])) == 1


def test_a_part_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "making").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        PartStore(tmp_path).add(hash_keys(["a"]), vectors_of(["a"]))
    assert list(tmp_path.iterdir()) == []


def test_the_first_source_that_has_a_text_is_taken() -> None:
    early, late = vectors_of(["a", "b"]), vectors_of(["b", "c"], 1)
    sources = [TextSource(hash_keys(["a", "b"]), early), TextSource(hash_keys(["b", "c"]), late)]
    places = find_vectors(hash_keys(["c", "b", "d", "a"]), sources)
    assert places.source.tolist() == [1, 0, -1, 0]
    assert places.row.tolist() == [1, 1, -1, 0]
    kept = find_vectors(hash_keys(["b", "c"]), sources)
    np.testing.assert_array_equal(gather(kept, sources), [early[1], late[1]])


def test_equal_texts_are_one() -> None:
    assert first_of_each(hash_keys(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]
    assert first_of_each(hash_keys([])).tolist() == []
