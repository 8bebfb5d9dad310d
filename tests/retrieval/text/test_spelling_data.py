"""Spelling on real shops: Chinese queries stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrieval.data.dataset import load
from retrieval.sources.lexical import Lexical
from retrieval.text.analysis import Analyzer
from retrieval.text.spelling import Spelling


@pytest.mark.data
def test_no_chinese_query_is_bent() -> None:
    if "SHORTLIST_DATA" not in os.environ:
        pytest.skip("SHORTLIST_DATA is unset")
    data = load(Path(os.environ["SHORTLIST_DATA"]) / "qbqtc")
    assert data.queries is not None
    lexical = Lexical.of(data.items["title"].to_pylist(), Analyzer(data.language.code))
    spelling = Spelling.of(lexical.codes, lexical.indptr, lambda _: False, lexical.analyzer)
    assert [text for text in data.queries.texts if spelling.read(text).text != text] == []
