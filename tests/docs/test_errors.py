"""The page of errors names every exception that a user can cause."""

from __future__ import annotations

import re
from pathlib import Path

from retrieval import errors

PAGE = Path(__file__).parents[2] / "docs/errors.md"


def test_every_exception_has_its_row() -> None:
    there = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ShortlistError)
    }
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)) == there


def test_every_exit_code_of_an_exception_has_its_row() -> None:
    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ShortlistError)
    }
    assert codes <= set(map(int, re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)))
