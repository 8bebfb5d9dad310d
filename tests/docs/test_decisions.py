"""The list of decisions has every record, by its title."""

from __future__ import annotations

from pathlib import Path

RECORDS = Path(__file__).parents[2] / "docs/adr"


def test_every_record_is_listed_by_its_number_and_title() -> None:
    listed = (RECORDS / "index.md").read_text("utf-8")
    for path in RECORDS.glob("0*.md"):
        number, title = path.read_text("utf-8").splitlines()[0].removeprefix("# ").split(". ", 1)
        assert path.name.startswith(f"{int(number):04}-")
        assert f"| [{number}]({path.name}) | {title} |" in listed
