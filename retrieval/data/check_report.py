"""The report on a data set: what it holds, what is wrong with it, and whether that is within its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

from retrieval.errors import BadData

SET_ASIDE, LEFT_OUT, CLEANED = "row set aside", "value left out", "text cleaned"
HINTS = {  # what is behind a rule that most rows of a file break
    "timestamp in the future": "such times mostly count milliseconds or microseconds that were taken for seconds",
    "timestamp before 1990": "such times mostly count seconds that were taken for milliseconds, or days",
}
GOING_ON = {SET_ASIDE: "without them", LEFT_OUT: "without these values", CLEANED: "with the text cleaned"}
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The rows of one file that break one rule.

    `action` is what was done with them ("row set aside", "value left out", "text cleaned"); `first_row`, counted from
    0, and `value` show the first of them. Findings of unknown items or queries (`unknown`) have a limit of their own.
    """

    rule: str
    action: str
    rows: int
    first_row: int
    value: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.rule} (first: row {self.first_row:,}, {self.value})"


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """One file: its rows, the rows kept, the bad rows by rule, and the limits on them.

    `bad` counts each row once, however many rules it breaks; `unknown` counts rows that name an item or a query that
    the data set does not hold. The limits are shares of `rows`: 1 bad row of 20 is 5 %. `remarks` count rows that are
    not bad, but are not read as they stand. `known_id` is an id of items.parquet, for comparison. `unread` are columns
    of the contract that no model reads. `renames` names, by missing column, a further column that may be meant.
    """

    path: str
    rows: int
    kept: int
    bad: int
    unknown: int
    max_bad: float
    max_unknown: float
    findings: tuple[Finding, ...]
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    remarks: tuple[Finding, ...] = ()
    known_id: str = ""
    unread: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def refusal(self) -> str | None:
        """Why the file is refused and what to do, in one line; None where it is within its limits."""
        if self.kept == 0 and math.isfinite(self.max_bad):
            return self._none_usable()
        if self.bad > self.max_bad * self.rows:
            return self._over_limit(self.bad, self.max_bad, "--max-bad", unknown=False)
        if self.unknown > self.max_unknown * self.rows:
            return self._over_limit(self.unknown, self.max_unknown, "--max-unknown", unknown=True)
        return None

    @property
    def verdict(self) -> str:
        """`good`, `within limits` (some rows are bad) or `refused`."""
        if self.refusal:
            return "refused"
        return "within limits" if self.findings else "good"

    def lines(self) -> list[str]:
        """The report for a terminal."""
        lines = [
            f"{self.path}: {self.rows:,} rows, {self.kept:,} kept, {self.verdict}",
            f"  columns: {', '.join(self.columns)}",
        ]
        if self.missing:
            lines.append(f"  missing optional columns: {', '.join(self.missing)}")
        if self.extra:
            lines.append(f"  further columns: {', '.join(self.extra)}")
        lines += [f"  {theirs} may be {ours}; rename it to {ours} if it is" for ours, theirs in self.renames.items()]
        if self.unread:
            lines.append(f"  read by no model: {', '.join(self.unread)}")
        return lines + [f"  {finding}: {finding.action}" for finding in (*self.findings, *self.remarks)]

    def raise_if_refused(self) -> None:
        """Raise `BadData` with the refusal, if there is one."""
        if self.refusal:
            raise BadData(self.refusal)

    def _none_usable(self) -> str:
        causes = "; ".join(map(str, sorted(self.findings, key=lambda finding: -finding.rows)))
        advice = "repair the file" + self._hint()
        if self.unknown and self.known_id:
            advice = f"items.parquet has ids such as {self.known_id}: write the same ids into both"
        return f"{self.path}: none of its {self.rows:,} rows is usable: {causes}; {advice}"

    def _hint(self) -> str:
        """What may be behind a rule that most rows break, in brackets; empty where nothing is known of it."""
        hints = [HINTS[one.rule] for one in self.findings if one.rule in HINTS and one.rows * 2 > self.rows]
        return f" ({hints[0]})" if hints else ""

    def _over_limit(self, count: int, limit: float, option: str, *, unknown: bool) -> str:
        worst_first = sorted((f for f in self.findings if f.unknown == unknown), key=lambda f: -f.rows)
        causes = "; ".join(map(str, worst_first))
        going_on = " and ".join(dict.fromkeys(GOING_ON[finding.action] for finding in worst_first))
        return (
            f"{self.path}: {count:,} of {self.rows:,} rows ({_percent(count / self.rows)}) are bad, more than "
            f"{_percent(limit)}: {causes}; repair them{self._hint()}, or raise {option} to "
            f"{_above(count / self.rows)} to go on {going_on}"
        )


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The report of `check` and `load` on a data set. `facts` and `notes` are for information."""

    folder: str
    files: tuple[FileReport, ...]
    facts: Mapping[str, Json]
    notes: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """One line for each refused file, in reading order; the first is often the cause of the others."""
        return tuple(report.refusal for report in self.files if report.refusal)

    @property
    def ok(self) -> bool:
        """Whether every file is within its limits."""
        return not self.refusals

    def raise_if_refused(self) -> None:
        """Raise `BadData` with the first refusal, if there is one."""
        for line in self.refusals:
            raise BadData(line)

    def to_dict(self) -> dict[str, Json]:
        """The whole report in JSON types."""
        return {
            "folder": self.folder,
            "ok": self.ok,
            "refusals": list(self.refusals),
            "files": [_file_dict(report) for report in self.files],
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The report for a terminal: a block for each file, the facts, the notes and the verdict."""
        lines = [line for report in self.files for line in report.lines()]
        lines += [f"{name}: {_fact(value)}" for name, value in self.facts.items()]
        lines += [f"note: {note}" for note in self.notes]
        return [*lines, *(f"refused: {line}" for line in self.refusals), *(["the data set is usable"] * self.ok)]


def _file_dict(report: FileReport) -> dict[str, Json]:
    return {**asdict(report), "verdict": report.verdict}


def _fact(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _percent(share: float) -> str:
    """
    >>> _percent(0.01), _percent(0.12345), _percent(0.00001)
    ('1 %', '12.3 %', '0.001 %')
    """
    return f"{100 * share:.3g} %"


def _above(share: float) -> str:
    """A share with two digits that is not below the one given.

    >>> _above(0.25), _above(0.1234), _above(0.00001), _above(1.0)
    ('0.25', '0.13', '0.00001', '1')
    """
    digits = 1 - math.floor(math.log10(share))
    return f"{math.ceil(round(share * 10**digits, 6)) / 10**digits:.{digits}f}".rstrip("0").rstrip(".")
