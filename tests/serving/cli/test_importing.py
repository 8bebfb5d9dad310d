"""The command `shortlist import`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from import_exports import EXPORTS
from serving.cli.app import app

SHOPIFY = EXPORTS / "shopify"


def shortlist(*arguments: str | Path) -> Result:
    """The result of a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def test_an_import_shows_rows_and_what_was_left_out(tmp_path: Path) -> None:
    result = shortlist("import", SHOPIFY, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "  item_id=00123, title=Red Mug - Small, " in result.stdout
    assert "  left out: 1 x draft product (first: 'MUG-N')" in result.stdout
    assert result.stdout.endswith(f"next: shortlist check {tmp_path / 'out'}\n")
    assert shortlist("check", tmp_path / "out").exit_code == 0


def test_as_json_it_is_one_object(tmp_path: Path) -> None:
    report = json.loads(shortlist("import", SHOPIFY, "--out", tmp_path, "--json").stdout)
    assert report["reader"] == "shopify"
    assert [(table["name"], table["rows"]) for table in report["tables"]] == [("items", 3), ("events", 7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: does not exist; name the file, folder or zip of the export"),
        ([str(SHOPIFY), "--from", "shoppify"], "--from shoppify: no such reader; there are: "),
        ([str(SHOPIFY), "--query", "SELEC"], "Parser Error"),
    ],
)
def test_an_error_is_one_line_and_ends_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = shortlist("import", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = shortlist("import", SHOPIFY, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
