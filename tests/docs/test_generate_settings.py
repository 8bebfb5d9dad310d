"""The page of settings has a row for every setting, in words."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from serving.settings import RunSettings

FILE = Path(__file__).parents[2] / "docs/generate_settings.py"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The hook of mkdocs, which lies in no package."""
    spec = importlib.util.spec_from_file_location("generate_settings", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Colours(BaseModel):
    """How it looks.

    More that is not for users.
    """

    name: Literal["red", "blue"] = Field(default="red", description="the paint")
    coats: int | None = Field(default=None, gt=0, le=9, description="Layers of it.")
    window: tuple[int, int] = (1, 50)


class Everything(BaseModel):
    """All of it."""

    colours: Colours = Colours()
    edges: Colours = Colours(name="blue")


def test_a_group_is_a_section_with_a_row_for_each_setting(pages: ModuleType) -> None:
    lines = pages.page_of(Everything()).splitlines()
    start = lines.index("## colours")
    assert lines[start + 2] == "How it looks."
    assert lines[start + 6 : start + 9] == [
        "| `name`<br>`red`, `blue` | `red` | The paint. |",
        "| `coats`<br>integer, above 0, at most 9; or none | `none` | Layers of it. |",
        "| `window`<br>2 integers | `[1, 50]` |  |",
    ]
    assert "More that is not" not in "\n".join(lines)


def test_a_group_of_a_kind_that_was_told_tells_what_differs(pages: ModuleType) -> None:
    part = pages.page_of(Everything()).split("## edges\n", 1)[1]
    assert "[colours](#colours)" in part
    assert [line for line in part.splitlines() if line.startswith("| `")] == [
        "| `name`<br>`red`, `blue` | `blue` | The paint. |"
    ]


def test_every_setting_of_a_run_has_its_row(pages: ModuleType) -> None:
    page, told = pages.page_of(RunSettings()), set[type[BaseModel]]()
    for name, group in pages.groups(RunSettings()):
        part = page.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
        if type(group) not in told:
            assert [one for one in pages.plain_fields(group) if f"| `{one}`<br>" not in part] == []
        told.add(type(group))


def test_every_setting_of_a_run_says_what_it_does(pages: ModuleType) -> None:
    for name, group in pages.groups(RunSettings()):
        fields = type(group).model_fields
        assert [f"{name}.{one}" for one in pages.plain_fields(group) if not fields[one].description] == []
