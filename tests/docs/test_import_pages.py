"""The page of each source shows what the import of its hand-made export prints, and is in the site's list."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from import_exports import EXPORTS
from page_examples import run_page
from retrieval.importing import registry
from retrieval.importing.registry import readers

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs/import").glob("*.md") if page.name != "index.md")


def copy_exports(folder: Path) -> None:
    """The exports of readers, and those that only pages have."""
    for exports in (EXPORTS, Path(__file__).parent / "exports"):
        shutil.copytree(exports, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_exports(tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong = run_page(page)
    assert not wrong, "\n".join(wrong)
    assert f"import/{page.name}" in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_every_reader_has_its_page() -> None:
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [reader.name for reader in readers() if f"shortlist import {reader.name}" not in told] == []


def test_the_reader_of_the_how_to_prints_what_its_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers()  # ours are there before
    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    spec = importlib.util.spec_from_file_location("my_shop_export", ROOT / "docs/examples/my_shop_export.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    copy_exports(tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong = run_page(ROOT / "docs/add-a-reader.md")
    assert not wrong, "\n".join(wrong)
