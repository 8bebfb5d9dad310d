"""Files that no reader knows: the error names them, and what it proposes makes a data set when it is typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from import_exports import rows_of
from retrieval.errors import BadData
from retrieval.importing.proposal import proposed_options
from retrieval.importing.run import import_data
from serving.cli.app import app


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        (["Artikelnr", "Bezeichnung", "Preis", "Farbe"], "--map item_id=Artikelnr,title=Bezeichnung,price=Preis"),
        (["商品编号", "商品名称"], "--map 'item_id=商品编号,title=商品名称'"),
        (["uid", "action", "sku", "ts"], "--map user_id=uid,item_id=sku,event=action,timestamp=ts"),
        (["qid", "asin", "label"], "--map query_id=qid,item_id=asin,grade=label"),
        (["foo", "bar"], "--map item_id=COLUMN,title=COLUMN"),
        ([], "--map item_id=COLUMN,title=COLUMN"),
    ],
)
def test_names_of_columns_suggest_the_table_and_its_mapping(columns: list[str], options: str) -> None:
    assert proposed_options(columns, "file") == options


def test_orders_without_kinds_of_events_are_read_by_a_query_as_purchases() -> None:
    assert proposed_options(["Customer ID", "sku", "order date"], "my_orders") == (
        '--query \'SELECT "Customer ID" AS user_id, sku AS item_id, "order date" AS timestamp, '
        "'\"'\"'purchase'\"'\"' AS event FROM my_orders'"
    )


def test_what_is_proposed_for_a_folder_works_when_it_is_typed(tmp_path: Path) -> None:
    shop = tmp_path / "shop dump"
    shop.mkdir()
    (shop / "products.csv").write_text("sku,name,colour\n1,Mug,red\n2,Jug,blue\n")
    (shop / "sales.csv").write_text("customer;sku;order_date;qty\nu1;1;2025-03-01;2\nu2;2;01.04.2025;1\n")
    with pytest.raises(BadData, match=r"products.csv: sku, name, colour; .*sales.csv: customer, sku") as error:
        import_data([shop], tmp_path / "out")
    commands = re.findall(r"shortlist import .*?(?=; shortlist|; or name a source)", str(error.value))
    assert len(commands) == 2
    for command in commands:
        arguments = shlex.split(command.replace("DATA", str(tmp_path / "out")))
        assert CliRunner().invoke(app, arguments[1:]).exit_code == 0, command
    assert rows_of(tmp_path / "out", "items")[0] == {"item_id": "1", "title": "Mug", "colour": "red"}
    assert [(row["user_id"], row["event"], row["quantity"]) for row in rows_of(tmp_path / "out", "events")] == [
        ("u1", "purchase", 2.0),
        ("u2", "purchase", 1.0),
    ]
