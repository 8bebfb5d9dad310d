"""Words alone on real shops: what they find of the titles that assessors judged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from retrieval.data.dataset import load
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer


@pytest.mark.data
def test_words_find_what_chinese_queries_mean() -> None:
    if "SHORTLIST_DATA" not in os.environ:
        pytest.skip("SHORTLIST_DATA is unset")
    data = load(Path(os.environ["SHORTLIST_DATA"]) / "qbqtc")
    assert data.language.code == "zh"
    assert data.queries is not None
    assert data.judgements is not None
    best = data.judgements.grade >= 2
    queries, lines = np.unique(data.judgements.query[best], return_inverse=True)
    found = Lexical.of(data.items["title"].to_pylist(), Analyzer("zh")).read(
        RequestBatch.of_texts([data.queries.texts[query] for query in queries])
    )
    hits = (found.top(10).rows[lines] == data.judgements.item[best][:, None]).any(axis=1)
    recall = np.bincount(lines, hits) / np.bincount(lines)
    print(f"recall@10 of {len(queries):,} queries: {recall.mean():.4f}")
    assert recall.mean() >= 0.86
