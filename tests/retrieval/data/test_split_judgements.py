"""Judged queries are each in one fold: by the judgements' own column where it will do, else by a hash of their id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval.data.check_report import CheckReport
from retrieval.data.dataset import DataSet, Judgements, Queries
from retrieval.data.split import split_judgements
from retrieval.errors import BadData
from retrieval.text.analysis import Language


def judged(splits: Sequence[str | None], per_query: int = 1) -> DataSet:
    """One judgement after another, `per_query` of them for each query."""
    codes = {"train": 0, "valid": 1, "test": 2, None: -1}
    n = len(splits) // per_query
    return DataSet(
        items=pa.table({"item_id": ["a", "b"], "title": ["Mug", "Cup"]}),
        item_ids=("a", "b"),
        user_ids=(),
        events=None,
        report=CheckReport(folder="", files=(), facts={}),
        fingerprint="",
        language=Language("en", ""),
        queries=Queries(ids=tuple(f"q{k}" for k in range(n)), texts=("mug",) * n, user=np.full(n, -1, np.int32)),
        judgements=Judgements(
            query=np.repeat(np.arange(n), per_query).astype(np.int32),
            item=np.tile(np.arange(per_query), n).astype(np.int32),
            grade=np.ones(len(splits), np.float32),
            split=np.array([codes[name] for name in splits], np.int8),
        ),
    )


def sizes(data: DataSet) -> dict[str, int]:
    folds = split_judgements(data).folds
    together = np.concatenate(list(folds.values()))
    assert data.queries is not None
    assert sorted(together.tolist()) == list(range(len(data.queries)))
    return {name: len(queries) for name, queries in folds.items()}


def test_the_judgements_own_column_divides_the_queries() -> None:
    data = judged(["train"] * 60 + ["valid"] * 10 + ["test"] * 30)
    assert sizes(data) == {"train": 60, "ranker_valid": 5, "gate": 5, "test": 30}
    assert split_judgements(data).folds["test"].tolist() == list(range(70, 100))


def test_without_a_column_a_hash_of_the_query_divides() -> None:
    assert sizes(judged([None] * 100)) == {"train": 70, "ranker_valid": 5, "gate": 5, "test": 20}
    assert "70/10/20" in split_judgements(judged([None] * 100)).reason


def test_a_query_of_several_splits_goes_to_the_strictest() -> None:
    data = judged(["train", "test", "train", "train", "valid", "train", "test", "test"], per_query=2)
    split = split_judgements(data)
    assert split.folds["test"].tolist() == [0, 3]
    assert split.folds["train"].tolist() == [1]
    assert "2 queries name several splits" in split.reason


def test_a_column_without_valid_holds_out_a_tenth_of_train() -> None:
    assert sizes(judged(["train"] * 60 + ["test"] * 30)) == {"train": 54, "ranker_valid": 3, "gate": 3, "test": 30}


@pytest.mark.parametrize("only", ["train", "test", "valid"])
def test_a_column_without_train_or_test_leaves_it_to_the_hash(only: str) -> None:
    data = judged([only] * 100)
    assert sizes(data)["test"] == 20
    assert "lacks train or test" in split_judgements(data).reason


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_queries_are_each_in_one_fold(n: int) -> None:
    assert sum(sizes(judged([None] * n)).values()) == n


def test_a_data_set_without_judgements_has_none_to_divide() -> None:
    with pytest.raises(BadData, match=r"needs queries\.parquet"):
        split_judgements(replace(judged([None]), judgements=None))
