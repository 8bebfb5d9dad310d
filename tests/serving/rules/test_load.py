"""A rules file is read whole or refused, every fault with its line."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from retrieval.errors import BadConfig
from serving.rules.load import BadRules, parse_rules, read_rules
from serving.rules.schema import Boost

FAULTY = """\
timezone = "UTC"

[[rule]]
name = "a"
kind = "blok"

[[rule]]
name = "b"
kind = "block"
filtr = "price < 5"

[[rule]]
name = "c"
kind = "cap"
column = "brand"
most = 0

[[rule]]
name = "d"
kind = "pin"
items = [
  "i1",
  2,
]
tasks = ["serch"]

[[rule]]
kind = "floor"
filter = "brand = x"
least = 3
within = 2
"""


def faults(text: str) -> list[tuple[int, str]]:
    with pytest.raises(BadRules) as refused:
        parse_rules(text)
    return [(fault.line, fault.message) for fault in refused.value.faults]


def test_every_fault_is_told_with_its_line_and_what_may_be_meant() -> None:
    found = dict(faults(FAULTY))
    assert list(found) == [5, 10, 16, 21, 25, 27]
    assert "did you mean block?" in found[5]
    assert "filtr is not known here" in found[10]
    assert "did you mean filter?" in found[10]
    assert "rule 'c': most is 0" in found[16]
    assert "rule 'd': items is 2" in found[21]
    assert "'recommend', 'search', 'similar' or 'complete_cart'" in found[25]
    assert found[27] == "rule 5: name is missing; add it"


def test_what_is_no_toml_is_told_with_its_line() -> None:
    assert faults('[[rule]]\nname = "a\nkind = "block"\n')[0][0] == 2


@pytest.mark.parametrize(
    ("rule", "line", "told"),
    [
        ('kind = "block"\nfilter = "brand"', 4, "expected one of = == "),
        ('kind = "block"', 1, 'names no items; add filter = "brand = Acme"'),
        ('kind = "boost"', 1, "either by filter and items, or by column"),
        ('kind = "boost"\nstrength = 11\ncolumn = "margin"', 4, "strength is 11"),
        ('kind = "bought_before"', 1, "says nothing; add days = 90"),
        ('kind = "floor"\nitems = ["i1"]\nleast = 3\nwithin = 2', 1, "wants 3 items within 2 places"),
        ('kind = "block"\nitems = ["i1"]\nfrom = "soon"', 5, "from is 'soon'"),
        ('kind = "block"\nitems = ["i1"]\n[rule.audience]\ncountry = {}', 5, "audience is"),
    ],
)
def test_a_rule_that_says_nothing_possible_is_refused(rule: str, line: int, told: str) -> None:
    found = faults(f'[[rule]]\nname = "a"\n{rule}\n')
    assert [at for at, _ in found] == [line]
    assert told in found[0][1]


def test_two_rules_of_one_name_and_an_unknown_zone_are_refused() -> None:
    one = '[[rule]]\nname = "a"\nkind = "block"\nitems = ["i1"]\n'
    assert faults(one + one) == [(2, "rule 'a': the name stands for several rules; give each its own")]
    assert faults('timezone = "Mars/Base"\n' + one)[0][0] == 1


def test_dates_audiences_and_versions_are_read() -> None:
    found = parse_rules(
        '[[rule]]\nname = "a"\nkind = "bury"\ncolumn = "price"\nfrom = 2026-01-01\nuntil = 2026-01-02T10:00:00\n'
        'audience = { country = ["DE", "AT"], member = true }\n'
    )
    (rule,) = found.rules
    assert isinstance(rule, Boost)
    assert (rule.begins, rule.until) == (date(2026, 1, 1), datetime(2026, 1, 2, 10))
    assert rule.audience == {"country": ("DE", "AT"), "member": True}
    assert rule.signed == -1.0
    assert len(found.version) == 12
    assert parse_rules('version = "autumn"').version == "autumn"
    assert parse_rules("").rules == ()


def test_lines_are_counted_past_texts_over_several_lines() -> None:
    text = '[[rule]]\nname = """\n[[rule]]\nkind = "x\n"""\nkind = "block"\nfilter = "brand"\n'
    assert [line for line, _ in faults(text)] == [7]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"missing\.toml: cannot be read as rules"):
        read_rules(tmp_path / "missing.toml")
