"""Every command that a page names is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from serving.cli.app import app

ROOT = Path(__file__).parents[2]
RECORDS = (
    "measured.md",
    "changelog.md",
    "architecture.md",
    "contributing.md",
)  # of their day, or included from the root
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += [
    page
    for page in sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/import").glob("*.md")])
    if page.name not in RECORDS
]
FENCED = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(shortlist [^`\n]+)`")
OPEN_ENDED = re.compile(r"\.\.\.|\|")  # a family of commands: nothing to parse


def commands_of(text: str) -> Iterator[str]:
    """Every command line of ours in blocks of shell, and in running text."""
    for block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\$ |\s*)(shortlist .*?)(?:\s+#.*)?$", line.removeprefix("$ "))
            if found:
                yield found[1]
    for command in INLINE.findall(FENCED.sub("", text)):
        if not OPEN_ENDED.search(command):
            yield command


def parse(arguments: list[str]) -> None:
    """Reads a command line as the command would, without running it. Raises click's usage error."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("shortlist", arguments, resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        left = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        name, command, rest = command.resolve_command(context, left)
        if not rest:
            return  # named alone, in running text
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_can_be_typed(page: Path) -> None:
    wrong = {}
    for command in commands_of(page.read_text("utf-8")):
        try:
            parse(shlex.split(command)[1:])
        except Exception as error:
            wrong[command] = repr(error)
    assert not wrong


@pytest.mark.parametrize("command", ["shortlist recomend bundle", "shortlist cart bundle", "shortlist run b --dat x"])
def test_a_command_that_there_is_not_is_seen(command: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        parse(shlex.split(command)[1:])
