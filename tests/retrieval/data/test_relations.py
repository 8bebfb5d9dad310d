"""Relations between items, as a shop names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_sets import NOW, one_finding, shop
from retrieval.data.dataset import check, load
from retrieval.data.relations import ACCESSORY, COMPLEMENT, KINDS, SUBSTITUTE, SYNONYM, Relations, kind_of
from retrieval.errors import BadData

ROWS = [("i1", "i2", "complement"), ("i3", "i1", "Substitute"), ("i1", "i4", "accessory")]


def related(folder: Path, rows: list[tuple[str | None, str | None, str | None]]) -> Path:
    """A data set with these relations."""
    shop(folder)
    item, other, kind = zip(*rows, strict=True)
    columns = {"item_id": pa.array(item, pa.string()), "related_id": pa.array(other, pa.string())}
    pq.write_table(pa.table({**columns, "kind": pa.array(kind, pa.string())}), folder / "relations.parquet")
    return folder


def test_relations_are_read_by_row_and_kind(tmp_path: Path) -> None:
    dataset = load(related(tmp_path, [*ROWS, ROWS[0]]), now=NOW)
    assert dataset.relations is not None
    ids = dataset.item_ids
    pairs = zip(dataset.relations.item, dataset.relations.related, dataset.relations.kind, strict=True)
    assert [(ids[one], ids[other], KINDS[kind]) for one, other, kind in pairs] == [
        ("i1", "i2", "complement"), ("i3", "i1", "substitute"), ("i1", "i4", "accessory"),
    ]  # fmt: skip
    assert dataset.report.facts["relations"] == {"complement": 1, "substitute": 1, "accessory": 1}


def test_a_shop_without_relations_has_none(tmp_path: Path) -> None:
    assert load(shop(tmp_path), now=NOW).relations is None


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (("i1", "i2", "colour"), "kind is no complement, substitute, synonym or accessory"),
        (("i1", "i2", None), "kind is no complement, substitute, synonym or accessory"),
        (("i1", "nowhere", "synonym"), "related_id not in items.parquet"),
        (("i1", "i1", "synonym"), "item related to itself"),
        (("i1", None, "synonym"), "related_id null or empty"),
    ],
)
def test_a_bad_relation_is_counted_and_set_aside(
    tmp_path: Path, row: tuple[str | None, str | None, str | None], rule: str
) -> None:
    dataset = load(related(tmp_path, [*ROWS * 40, row]), max_bad=0.1, now=NOW)
    assert one_finding(dataset, -1)[:3] == (rule, "row set aside", 1)
    assert dataset.relations is not None
    assert len(dataset.relations) == len(ROWS)


def test_a_column_that_looks_like_ours_is_proposed(tmp_path: Path) -> None:
    shop(tmp_path)
    table = pa.table({"sku": ["i1"], "related_sku": ["i2"], "link_type": ["cross_sell"]})
    pq.write_table(table, tmp_path / "relations.parquet")
    with pytest.raises(BadData, match="rename related_sku to related_id, rename link_type to kind"):
        check(tmp_path, now=NOW)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cross-sell", COMPLEMENT), ("goes with", COMPLEMENT), ("bought_together", COMPLEMENT),
        ("Up-Sell", SUBSTITUTE), ("alternative", SUBSTITUTE), ("replacement for", SUBSTITUTE),
        ("duplicate", SYNONYM), ("accessories", ACCESSORY), ("add-on", ACCESSORY), ("Zubehör", ACCESSORY),
        ("", -1), ("size", -1),
    ],
)  # fmt: skip
def test_kinds_are_known_by_what_shops_call_them(name: str, kind: int) -> None:
    assert kind_of(name) == kind


def test_what_goes_with_an_item_goes_both_ways_and_an_accessory_one() -> None:
    relations = Relations(
        item=np.array([0, 0, 2, 1], np.int32),
        related=np.array([1, 3, 3, 0], np.int32),
        kind=np.array([COMPLEMENT, ACCESSORY, SUBSTITUTE, COMPLEMENT], np.int8),
    )
    completes = relations.matrix((COMPLEMENT, ACCESSORY), 4).toarray()
    assert completes.tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert np.argwhere(relations.matrix((SUBSTITUTE, SYNONYM), 4).toarray()).tolist() == [[2, 3], [3, 2]]
