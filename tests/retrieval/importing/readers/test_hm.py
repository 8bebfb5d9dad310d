"""H&M: ids with a zero in front, articles of one product, scaled prices, and an article bought twice on one day."""

from datetime import datetime
from pathlib import Path

import pytest

from import_exports import ExportOf, only


def test_ids_keep_their_zero_and_articles_their_product(export_of: ExportOf) -> None:
    report, tables = export_of("hm")
    assert only(tables["items"], "item_id", "group_id", "title", "category", "colour", "product_type")[:3] == [
        (
            "0108775015",
            "0108775",
            "Strap top, Black",
            ["Ladieswear", "Garment Upper body", "Vest top"],
            "Black",
            "Vest top",
        ),
        (
            "0108775044",
            "0108775",
            "Strap top, White",
            ["Ladieswear", "Garment Upper body", "Vest top"],
            "White",
            "Vest top",
        ),
        ("0110065001", "0110065", "OP T-shirt (Idro), Black", ["Lingeries/Tights", "Underwear", "Bra"], "Black", "Bra"),
    ]
    assert only(tables["items"], "description", item_id="0610776001") == [(None,)]
    assert [Path(label).name for label in report.unread] == ["customers.csv"]


def test_a_day_is_a_basket_and_repeated_rows_are_a_quantity(export_of: ExportOf) -> None:
    _, tables = export_of("hm")
    day = only(tables["events"], "item_id", "event", "quantity", "price", basket_id="0358ebe23d2f9ff 2020-08-13")
    assert day == [
        ("0108775015", "purchase", 1.0, pytest.approx(0.030491525423728813)),
        ("0372860001", "purchase", 2.0, pytest.approx(0.0199)),
    ]
    assert only(tables["events"], "timestamp", basket_id="0358ebe23d2f9ff 2020-08-13")[0] == (datetime(2020, 8, 13),)
