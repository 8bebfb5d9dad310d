"""Where the keys of a rules file stand, for errors that name the line: tomllib does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

RULE = re.compile(r"\s*\[\[\s*rule\s*\]\]")
TABLE = re.compile(r"""\s*\[\s*rule\s*\.\s*["']?([\w-]+)""")
KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*(?:\.[^=]*)?=""")
MULTILINE = ('"""', "'''")


@dataclass(frozen=True)
class TomlLines:
    """The line, from 1, of each rule's header and of each key, by the rule's number from 0; -1: outside of rules."""

    headers: dict[int, int] = field(default_factory=dict)
    keys: dict[tuple[int, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> TomlLines:
        """Those of a TOML text.

        >>> TomlLines.of('timezone = "UTC"\\n[[rule]]\\nname = "a"\\n').keys
        {(-1, 'timezone'): 1, (0, 'name'): 3}
        """
        found, rule, table = cls(), -1, False
        for number, line in _lines(text):
            if RULE.match(line):
                rule, table = rule + 1, False
                found.headers[rule] = number
            elif match := TABLE.match(line):
                table = True
                found.keys.setdefault((rule, match[1]), number)
            elif not table and (match := KEY.match(line)):
                found.keys.setdefault((rule, match[1]), number)
        return found

    def of_key(self, rule: int, key: str | None = None) -> int:
        """The line of a rule's key; that of the rule where it has no such key, 1 where nothing is known."""
        return self.keys.get((rule, key or ""), self.headers.get(rule, 1))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, but those inside of a text over several lines."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            yield number, line
        for quote in MULTILINE:
            if line.count(quote) % 2 and inside in ("", quote):
                inside = "" if inside else quote
