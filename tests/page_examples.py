"""The examples of a page of documents, run in a folder: commands with what they print, and Python with what it prints.

A block `console` holds commands after `$ ` and below each its output; a block `python` is run, and a block `text` right
after it holds what it prints. A line `...` stands for any number of lines. Numbers may differ, for they vary by machine
and training, and so may the rest of a row that begins with a place or a mark (` 1  item ...`, ` *  release ...`): which
items a model puts there. Whether an answer is reranked is up to the gate of the bundle at hand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from serving.cli.app import app

BLOCK = re.compile(r"^```(console|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RELEASE = re.compile(r"\b\d{8}[\dTZ-]*-[0-9a-f]+\b")
NUMBER = re.compile(r"\d[\d,.]*")
PLACE = re.compile(r"^\s*(\d+|\*)\s")
ORDERED = re.compile(r"ordered by (retrieval alone|features and cross-encoder|features|cross-encoder)")
RULE = re.compile("─+")
SIZE = re.compile(r"\b[kMG]B\b")
ANY = "..."


class Step(NamedTuple):
    """A command, or a piece of Python where `command` is empty, and what it prints."""

    command: str
    code: str
    output: str


def steps_of(text: str) -> Iterator[Step]:
    """The examples of a page, in its order."""
    blocks = [(found[1], found[2]) for found in BLOCK.finditer(text)]
    for place, (kind, body) in enumerate(blocks):
        if kind == "console":
            for example in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = example.partition("\n")
                yield Step(command, "", output)
        elif kind == "python":
            follows = blocks[place + 1] if place + 1 < len(blocks) else ("", "")
            yield Step("", body, follows[1] if follows[0] == "text" else "")


def printed_by(command: str) -> str:
    """What a command of ours prints: its stdout, or its stderr where it ends with an error."""
    program, *arguments = shlex.split(command)
    assert program == "shortlist", f"{command}: a console block holds commands of shortlist alone"
    result = CliRunner().invoke(app, arguments, prog_name="shortlist")
    return result.stdout if result.exit_code == 0 else result.stderr


def run_page(page: Path, left_out: str = "") -> list[str]:
    """Runs a page's examples in the working folder, but for the command `left_out`; the differences found."""
    names: dict[str, object] = {}
    wrong = []
    for step in steps_of(page.read_text("utf-8")):
        if step.command and step.command == left_out:
            continue
        if step.command:
            found = printed_by(step.command)
        else:
            with redirect_stdout(StringIO()) as stdout:
                exec(compile(step.code, str(page), "exec"), names)
            found = stdout.getvalue()
        if not alike(step.output, found):
            wrong.append(f"{step.command or step.code}\n-- {page.name} shows:\n{step.output}\n-- printed:\n{found}")
    return wrong


def alike(shown: str, printed: str) -> bool:
    """Whether a page shows what is printed, but for numbers and for what a model puts in the places of a list."""
    parts = re.split(r"(?m)^\s*\.\.\.\s*$\n?", form(shown))
    pattern = r"[\s\S]*".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, form(printed)) is not None


def form(text: str) -> str:
    """Lines without what varies: numbers, names of releases, what follows a place, runs of blanks, blank lines."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "".join(line + "\n" if line == ANY else varied(line) + "\n" for line in lines if line)


def varied(line: str) -> str:
    """One line so."""
    if PLACE.match(line):
        return "0 row"
    line = ORDERED.sub("ordered", RULE.sub("─", SIZE.sub("B", line)))
    return NUMBER.sub("0", RELEASE.sub("RELEASE", line))
