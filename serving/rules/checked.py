"""Everything that can be told of a rules file before it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexing.version.index_version import IndexVersion
from retrieval.text.analysis import Analyzer
from serving.rules.compiled import scopes_of
from serving.rules.contradictions import contradictions, empty_dates
from serving.rules.load import BadRules, Fault, read_rules
from serving.rules.prepared import prepare


@dataclass(frozen=True)
class CheckedRules:
    """What a check found: `rows` are the name and the kind of each rule and how many items it is about, None: all may
    be, or the file was checked without a catalogue; `contradictions` are rules that cannot all be kept, `warnings`
    items and values that the catalogue does not have."""

    source: str
    version: str
    rows: tuple[tuple[str, str, int | None], ...]
    contradictions: tuple[Fault, ...]
    warnings: tuple[Fault, ...] = ()

    def lines(self, faults: tuple[Fault, ...]) -> list[str]:
        """Faults as lines of text, with the file and the line of each."""
        return [f"{self.source}:{fault.line}: {fault.message}" for fault in sorted(faults)]

    def to_dict(self) -> Mapping[str, object]:
        """As JSON."""
        return {
            "file": self.source,
            "version": self.version,
            "rules": [{"name": name, "kind": kind, "items": items} for name, kind, items in self.rows],
            "contradictions": self.lines(self.contradictions),
            "warnings": self.lines(self.warnings),
        }


def check_rules(path: Path, version: IndexVersion | None, analyzer: Analyzer) -> CheckedRules:
    """Checks a file, over the items of an index version where there is one. Raises BadRules with all faults for which
    an engine would not use it."""
    ruleset = read_rules(path)
    scopes = scopes_of(ruleset, analyzer)
    if version is None:
        rows = tuple((rule.name, rule.kind, None) for rule in ruleset.rules)
        return CheckedRules(ruleset.source, ruleset.version, rows, tuple(empty_dates(ruleset, scopes)))
    prepared, faults, warnings = prepare(ruleset, version)
    if faults:
        raise BadRules(ruleset.source, faults)
    found = contradictions(ruleset, prepared, scopes, version)
    counted = tuple((one.rule.name, one.rule.kind, one.named) for one in prepared)
    return CheckedRules(ruleset.source, ruleset.version, counted, tuple(found), tuple(warnings))
