"""Reads a rules file, and tells every fault of it with its line."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from indexing.version.filters import lists_of
from retrieval.errors import BadConfig, BadRequest
from serving.rules.schema import (
    AnyRule,
    Block,
    Boost,
    BoughtBefore,
    Cap,
    Floor,
    InStock,
    Only,
    Pin,
    Rule,
    RulesFile,
    Slot,
)
from serving.rules.toml_lines import TomlLines

KINDS: dict[str, type[Rule]] = {
    "block": Block,
    "only": Only,
    "in_stock": InStock,
    "bought_before": BoughtBefore,
    "boost": Boost,
    "bury": Boost,
    "cap": Cap,
    "pin": Pin,
    "slot": Slot,
    "floor": Floor,
}


class Fault(NamedTuple):
    """What is wrong in a file, and at which line."""

    line: int
    message: str


class BadRules(BadConfig):
    """A rules file that cannot be used; `faults` are all that was found."""

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source, self.faults = source, tuple(sorted(faults))
        super().__init__("; ".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """One line of text for each fault."""
        return [f"{self.source}:{fault.line}: {fault.message}" for fault in self.faults]


@dataclass(frozen=True, eq=False)
class RuleSet:
    """A checked rules file. `version` is what the file calls itself, else the beginning of its checksum."""

    source: str
    version: str
    zone: tzinfo
    rules: tuple[AnyRule, ...]
    lines: TomlLines

    def fault(self, at: int, message: str, key: str | None = None) -> Fault:
        """A fault of the rule at a position, at the line of one of its keys."""
        return Fault(self.lines.of_key(at, key), f"rule {self.rules[at].name!r}: {message}")


def read_rules(path: Path) -> RuleSet:
    """The rules of a file. Raises BadRules with all faults, BadConfig where it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: cannot be read as rules ({error}); give a TOML file in UTF-8") from error
    return parse_rules(text, str(path))


def parse_rules(text: str, source: str = "rules") -> RuleSet:
    """The rules of a TOML text, `source` being its name in errors. Raises BadRules with all faults."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(source, [Fault(_line_of(error, text), f"is no TOML: {error}")]) from error
    except RecursionError:
        raise BadRules(source, [Fault(1, "has lists or tables too deep within each other; write them flat")]) from None
    lines = TomlLines.of(text)
    try:
        read = RulesFile.model_validate(tree)
    except ValidationError as error:
        faults = [_fault(one, lines, tree) for one in reversed(error.errors())]
        raise BadRules(source, list({fault.line: fault for fault in faults}.values())) from error  # the first of a line
    version = read.version or hashlib.sha256(text.encode()).hexdigest()[:12]
    zone = _zone(read.timezone)
    if zone is None:
        wrong = f"timezone {read.timezone!r} is not known; write one such as Europe/Berlin"
        raise BadRules(source, [Fault(lines.of_key(-1, "timezone"), wrong)])
    found = RuleSet(source, version, zone, read.rule, lines)
    if faults := [*_twice(found), *_filters(found)]:
        raise BadRules(source, faults)
    return found


def closest(word: str, words: Sequence[str]) -> str:
    """What may have been meant, as the end of an error; empty where nothing is alike.

    >>> closest("brnad", ["brand", "price"])
    '; did you mean brand?'
    """
    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _twice(rules: RuleSet) -> Iterator[Fault]:
    names = Counter(rule.name for rule in rules.rules)
    for at, rule in enumerate(rules.rules):
        if names[rule.name] > 1:
            names[rule.name] = 1  # told once
            yield rules.fault(at, "the name stands for several rules; give each its own", "name")


def _filters(rules: RuleSet) -> Iterator[Fault]:
    for at, rule in enumerate(rules.rules):
        text = getattr(rule, "filter", None)
        if text is not None:
            try:
                lists_of(text)
            except BadRequest as error:
                yield rules.fault(at, str(error), "filter")


def _zone(name: str) -> tzinfo | None:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)  # the first needs no database of zones
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return None


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> int:
    said = str(error).partition("at line ")[2].split(",")[0]
    return int(said) if said.isdigit() else max(1, len(text.splitlines()))


def _fault(error: ErrorDetails, lines: TomlLines, tree: dict[str, object]) -> Fault:
    """What pydantic found wrong, in a merchandiser's words."""
    path = error["loc"]
    if path[:1] != ("rule",) or len(path) < 2 or not isinstance(path[1], int):
        return Fault(lines.of_key(-1, str(path[0])), _said(error, RulesFile, str(path[0])))
    at, rest = path[1], [part for part in path[2:] if part not in KINDS]
    key = str(rest[0]) if rest else None
    given = tree["rule"][at] if isinstance(tree["rule"], list) else {}
    kind, name = (given.get(part) if isinstance(given, dict) else None for part in ("kind", "name"))
    who = f"rule {name!r}" if isinstance(name, str) and name else f"rule {at + 1}"
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        near = closest(str(kind), list(KINDS))
        return Fault(lines.of_key(at, "kind"), f"{who}: kind is {kind!r}; it is one of {', '.join(KINDS)}{near}")
    return Fault(lines.of_key(at, key), f"{who}: {_said(error, KINDS.get(str(kind), Rule), key)}")


def _said(error: ErrorDetails, model: type[BaseModel], key: str | None) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()]
    if error["type"] == "extra_forbidden":
        return f"{key} is not known here; there are {', '.join(known)}{closest(str(key), known)}"
    if error["type"] == "missing":
        return f"{key} is missing; add it"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{key} is {error['input']!r:.60}: {error['msg']}"
