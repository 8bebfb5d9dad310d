"""The sources of a release: read back as written, and codes that name an item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrieval.errors import CorruptBundle
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from serving.answering.source_registry import VOCABULARY, open_sources, write_words
from serving.engine import Engine

TEXTS = ["red mug", "blue mug mug", "a red lamp, 40w"]


def test_words_are_read_as_they_were_written(engine: Engine, tmp_path: Path) -> None:
    write_words(tmp_path, TEXTS)
    found = open_sources(tmp_path, engine.stages.version, engine.shoppers, ())["words"]
    asked = RequestBatch.of_texts(["red mug", "lamp 40"])
    for ours, theirs in zip(found.read(asked).top(3), Lexical.of(TEXTS).read(asked).top(3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_torn_words_are_named(engine: Engine, tmp_path: Path) -> None:
    write_words(tmp_path, TEXTS)
    (tmp_path / VOCABULARY).write_text("{", "utf-8")
    with pytest.raises(CorruptBundle, match=str(tmp_path)):
        open_sources(tmp_path, engine.stages.version, engine.shoppers, ())["words"]


def test_an_item_is_found_by_its_codes(engine: Engine) -> None:
    version = engine.stages.version
    codes = [None if row % 2 else f"0-19-85{row:04d}" for row in range(version.size)]
    coded = replace(version, items=version.items.append_column("ISBN", pa.array(codes, pa.string())))
    numbers = pa.array(range(9_000_000, 9_000_000 + version.size), pa.int64())
    coded = replace(coded, items=coded.items.append_column("gtin", numbers))
    exact = open_sources(None, coded, engine.shoppers, ())["exact"]
    asked = RequestBatch.of_texts([codes[4] or "", f" {version.ids[9].as_py()}", "0-19-859999", "", "9000003"])
    assert exact.read(asked).top(1).rows[:, 0].tolist() == [4, 9, -1, -1, 3]
