"""A data set with its splits, in the order of an index if one is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval.data.dataset import DataSet
from retrieval.errors import BadData
from retrieval.settings import AUTO, MULTILINGUAL
from retrieval.text.text_model import text_model_for
from retrieval.topk import CSR
from serving.settings import DataConfig, RunSettings
from serving.shop import Shop, in_order, repeat_share

Open = Callable[[Path, RunSettings], Shop]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


def bought(data: DataSet) -> list[tuple[str, str]]:
    assert data.events is not None
    return [
        (data.user_ids[user], data.item_ids[item])
        for user, item in zip(data.events.user, data.events.item, strict=True)
    ]


def judged(data: DataSet) -> set[tuple[str, str, float]]:
    assert data.judgements is not None
    assert data.queries is not None
    columns = zip(data.judgements.query, data.judgements.item, data.judgements.grade, strict=True)
    return {(data.queries.ids[query], data.item_ids[item], float(grade)) for query, item, grade in columns}


def test_the_language_is_that_of_the_titles_unless_it_is_named(shop: Shop, tmp_path: Path) -> None:
    assert (shop.language, shop.analyzer.language) == ("en", "en")
    pq.write_table(shop.data.items, tmp_path / "items.parquet")
    settings = DataConfig(language="de")
    named = Shop.open(tmp_path, settings, now=datetime(2026, 1, 1, tzinfo=UTC), catalogue_alone=True)
    assert (named.language, named.analyzer.language) == ("de", "de")
    assert text_model_for(AUTO, named.data.language).model == MULTILINGUAL


def test_items_in_another_order_are_the_same_items(shop: Shop) -> None:
    ids = [shop.data.item_ids[row] for row in np.random.default_rng(0).permutation(shop.data.n_items)]
    other = in_order(shop.data, ids, Path("data"))
    assert list(other.item_ids) == other.items["item_id"].to_pylist() == ids
    assert bought(other) == bought(shop.data)
    assert judged(other) == judged(shop.data)


@pytest.mark.parametrize("change", [lambda ids: ids[1:], lambda ids: [*ids, "new"], lambda ids: ["new", *ids[1:]]])
def test_other_items_are_refused_with_what_to_run(shop: Shop, change: Callable[[list[str]], list[str]]) -> None:
    with pytest.raises(BadData, match="shortlist index build"):
        in_order(shop.data, change(list(shop.data.item_ids)), Path("data"))


def test_the_splits_are_told_with_their_sizes(shop: Shop) -> None:
    lines = shop.split_lines()
    assert [line.split(":")[0] for line in lines] == ["target events", "split of events", "split of judgements"]
    sizes = shop.fold_sizes()
    assert shop.events is not None
    assert sizes["test"] == len(shop.events.folds["test"])
    assert f"test {sizes['test']:,}" in lines[1]


def test_judged_items_are_given_query_by_query(shop: Shop) -> None:
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    queries = shop.judgements.folds["test"][::-1]
    rows, grades = shop.judged(queries)
    assert rows.n_lists == len(queries)
    for at, query in enumerate(queries):
        mine = shop.data.judgements.query == query
        part = slice(rows.indptr[at], rows.indptr[at + 1])
        found = set(zip(rows.rows[part].tolist(), grades[part].tolist(), strict=True))
        assert found == set(
            zip(shop.data.judgements.item[mine].tolist(), shop.data.judgements.grade[mine].tolist(), strict=True)
        )


def test_repeats_are_counted_within_a_request() -> None:
    seen, targets = CSR.from_lists([[1, 2], [3]]), CSR.from_lists([[2, 5], [1]])
    assert repeat_share(seen, targets) == pytest.approx(1 / 3)
    assert repeat_share(CSR.from_lists([]), CSR.from_lists([])) == 0.0


def test_titles_of_pads_are_left_out(shop: Shop) -> None:
    assert shop.titles([0, -1]) == [shop.data.items["title"][0].as_py()]
