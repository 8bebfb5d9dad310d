"""The map of the code has every folder, and names no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PACKAGES = ("retrieval", "indexing", "ranking", "serving", "benchmarks")


def test_every_folder_of_a_package_is_on_the_map() -> None:
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).glob("*/*.py")}
    names = {f"{folder.relative_to(ROOT)}/" for folder in folders}
    assert {name for name in names if name not in TEXT and f"`{name.split('/', 1)[1]}`" not in TEXT} == set()


def test_every_path_on_the_map_is_there() -> None:
    paths = re.findall(rf"`((?:{'|'.join(PACKAGES)}|docs|tests)/[\w./-]*)`", TEXT)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
