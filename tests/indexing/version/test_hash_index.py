"""Ids and texts to rows, by sorted hashes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.version.hash_index import HashIndex, hash_keys, rows_of


@settings(deadline=None)
@given(st.lists(st.text(), unique=True, max_size=60), st.lists(st.text(), max_size=20))
def test_every_key_is_found_at_its_row_and_others_are_not(keys: list[str], others: list[str]) -> None:
    keys = [key.encode("utf-8", "replace").decode() for key in keys]
    keys = list(dict.fromkeys(keys))
    index = HashIndex.build(hash_keys(keys))
    rows = rows_of(keys + others, index, pa.chunked_array([keys], pa.string()))
    assert rows.tolist() == [*range(len(keys)), *(keys.index(key) if key in keys else -1 for key in others)]


def test_keys_that_share_half_their_hash_are_told_apart() -> None:
    hashes = np.array([[5, 1], [5, 2], [3, 9], [5, 3]], np.uint64)
    index = HashIndex.build(hashes)
    wanted = np.array([[5, 3], [5, 2], [5, 4], [3, 9], [6, 1], [5, 1]], np.uint64)
    assert index.find(wanted).tolist() == [3, 1, -1, 2, -1, 0]


def test_an_id_whose_hash_is_another_s_is_not_answered() -> None:
    column = pa.chunked_array([["a", "b"]])
    forged = HashIndex.build(hash_keys(["z", "b"]))
    assert rows_of(["z", "b"], forged, column).tolist() == [-1, 1]


def test_of_equal_texts_the_first_row_is_found() -> None:
    assert HashIndex.build(hash_keys(["x", "y", "x"])).find(hash_keys(["x"])).tolist() == [0]


def test_of_equal_texts_all_rows_can_be_found() -> None:
    found = HashIndex.build(hash_keys(["x", "y", "x"])).find_all(hash_keys(["x", "z", "y"]))
    assert (found.indptr.tolist(), found.rows.tolist()) == ([0, 2, 2, 3], [0, 2, 1])
    half = HashIndex.build(np.array([[5, 1], [5, 2], [5, 1]], np.uint64))
    assert half.find_all(np.array([[5, 1], [5, 3]], np.uint64)).rows.tolist() == [0, 2]
    assert HashIndex.build(hash_keys([])).find_all(hash_keys(["x"])).rows.tolist() == []
