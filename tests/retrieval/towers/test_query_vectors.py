"""Vectors of queries: each is read once while it is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from retrieval.topk import Vectors
from retrieval.towers import query_vectors
from retrieval.towers.query_vectors import QueryVectors
from retrieval.towers.serving import UserTower


class CountingTower:
    """Reads a query as the codes of its first two letters, and notes what it read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def queries(self, texts: Sequence[str]) -> Vectors:
        self.read.extend(texts)
        return np.array([[ord(letter) for letter in text[:2]] for text in texts], np.float32)


def test_a_query_is_read_once_and_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_vectors, "CACHED", 2)
    tower = CountingTower()
    known = QueryVectors(cast("UserTower", tower))
    red, saw, oil = CountingTower().queries(["red mug", "steel saw", "oil"]).tolist()
    assert known.of(["red mug", "steel saw"]).tolist() == [red, saw]
    assert known.of(["steel saw", "oil", "red mug", "oil"]).tolist() == [saw, oil, red, oil]
    assert tower.read == ["red mug", "steel saw", "oil"]
    assert known.of(["steel saw"]).tolist() == [saw]  # forgotten meanwhile: no more are remembered than fit
    assert tower.read == ["red mug", "steel saw", "oil", "steel saw"]


def test_what_was_forgotten_is_read_again() -> None:
    tower = CountingTower()
    known = QueryVectors(cast("UserTower", tower))
    known.of(["oil"])
    known.forget()
    known.of(["oil"])
    assert tower.read == ["oil", "oil"]
