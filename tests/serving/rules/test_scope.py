"""When, where and for whom a rule holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from retrieval.text.analysis import Analyzer
from serving.rules.load import parse_rules
from serving.rules.scope import Asked, Scope

ANALYZER, BERLIN = Analyzer(), ZoneInfo("Europe/Berlin")
NOBODY = Asked(
    now=datetime(2026, 12, 24, 12, tzinfo=UTC).timestamp(),
    task="recommend",
    page=None,
    audience={},
    texts=(),
    categories=frozenset(),
    analyzer=ANALYZER,
)


def scope(conditions: str) -> Scope:
    (rule,) = parse_rules(f'[[rule]]\nname = "a"\nkind = "block"\nitems = ["i1"]\n{conditions}\n').rules
    return Scope.of(rule, BERLIN, ANALYZER)


@pytest.mark.parametrize(
    ("conditions", "holds", "not_for"),
    [
        ("", {}, None),
        ('tasks = ["search"]', {"task": "search"}, {}),
        ('pages = ["home"]', {"page": "home"}, {"page": "cart"}),
        ('audience = { country = ["DE", "AT"] }', {"audience": {"country": "AT"}}, {"audience": {"country": "FR"}}),
        ("audience = { member = true }", {"audience": {"member": True, "country": "FR"}}, {}),
        ('audience = { segment = "vip" }', {"audience": {"segment": ["b2b", "vip"]}}, {"audience": {"segment": []}}),
        ('query_is = ["oak tables"]', {"texts": ["Oak table"]}, {"texts": ["small oak table"]}),
        ('query_has = ["table oak", "desk"]', {"texts": ["a small oak table"]}, {"texts": ["oak chair"]}),
        ('query_has = ["desk"]', {"texts": ["dekss", "desks"]}, {}),
        ('categories = ["Mugs"]', {"categories": frozenset({"Mugs", "Cups"})}, {"categories": frozenset({"Cups"})}),
    ],
)
def test_a_rule_holds_where_all_its_conditions_do(
    conditions: str, holds: dict[str, object], not_for: dict[str, object] | None
) -> None:
    assert scope(conditions).holds(replace(NOBODY, **holds))  # type: ignore[arg-type]
    if not_for is not None:
        assert not scope(conditions).holds(replace(NOBODY, **not_for))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dates", "first", "after"),
    [
        ("from = 2026-12-24\nuntil = 2026-12-26", "2026-12-23T23:00", "2026-12-26T23:00"),
        ("from = 2026-12-24T08:00:00\nuntil = 2026-12-24T10:00:00", "2026-12-24T07:00", "2026-12-24T09:00"),
        ("from = 2026-12-24T08:00:00Z\nuntil = 2026-12-24T10:00:00-02:00", "2026-12-24T08:00", "2026-12-24T12:00"),
    ],
)
def test_dates_are_of_the_files_zone_and_the_last_day_counts_whole(dates: str, first: str, after: str) -> None:
    found = scope(dates)
    assert found.begins == datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp()
    assert found.ends == datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp()
    assert found.holds(replace(NOBODY, now=found.begins))
    assert not found.holds(replace(NOBODY, now=found.ends))


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("", 'tasks = ["search"]', True),
        ('tasks = ["recommend"]', 'tasks = ["search"]', False),
        ('audience = { country = "DE" }', 'audience = { country = "FR" }', False),
        ('audience = { country = "DE" }', "audience = { member = true }", True),
        ("until = 2026-01-01", "from = 2026-01-02", False),
        ('query_is = ["oak"]', 'query_is = ["pine"]', False),
        ('pages = ["home"]', 'categories = ["Mugs"]', True),
    ],
)
def test_rules_meet_unless_no_request_is_of_both(one: str, other: str, meet: bool) -> None:
    assert scope(one).meets(scope(other)) is scope(other).meets(scope(one)) is meet
