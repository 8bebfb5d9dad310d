"""Rules that cannot all be kept are named, with the line at which one of them stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.engine import Engine
from serving.rules.checked import CheckedRules, check_rules
from serving.rules.load import BadRules

Check = Callable[[str], CheckedRules]


@pytest.fixture(scope="module")
def check(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Checks rules over the generated shop; of each a line before `kind` begins it and names it."""

    def checked(text: str) -> CheckedRules:
        first, *others = text.split("\nkind = ")
        path = tmp_path_factory.mktemp("rules") / "rules.toml"
        rules = (f'[[rule]]\nname = "{"abcd"[at]}"\nkind = {rule}\n' for at, rule in enumerate(others))
        path.write_text(first + "".join(rules), "utf-8")
        return check_rules(path, engine.state.version, engine.state.analyzer)

    return checked


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (
            '\nkind = "block"\nitems = ["item-00003"]\nkind = "pin"\nitems = ["item-00004", "item-00003"]',
            8,
            "rule 'b': pins item-00003, which rule 'a' never lets be answered",
        ),
        (
            '\nkind = "pin"\nitems = ["item-00003", "item-00004"]\nkind = "slot"\nplace = 2\nfilter = "price > 1"',
            8,
            "rule 'b': wants place 2, which rule 'a' has already",
        ),
        (
            '\nkind = "only"\nfilter = "price < 20"\nkind = "only"\nfilter = "price > 30"',
            8,
            "rule 'b': and rule 'a' together let no item be answered",
        ),
        ('\nkind = "only"\nfilter = "price < 0"', 4, "rule 'a': lets no item of the catalogue be answered"),
        (
            '\nkind = "only"\nfilter = "price < 20"\nkind = "floor"\nleast = 2\nfilter = "price > 20"',
            9,
            "rule 'b': is about items of which rule 'a' lets none be answered",
        ),
        (
            '\nkind = "cap"\ncolumn = "brand"\nmost = 1\nkind = "floor"\nleast = 2\nfilter = "brand = \'{brand}\'"',
            9,
            "rule 'b': wants 2 items where there can be 1, and rule 'a' lets 1 of each brand through",
        ),
        (
            '\nkind = "block"\nitems = ["item-00003"]\nfrom = 2026-02-01\nuntil = 2026-01-01',
            6,
            "rule 'a': holds at no time",
        ),
    ],
)
def test_each_kind_of_contradiction_is_named(check: Check, engine: Engine, text: str, line: int, told: str) -> None:
    brands = engine.state.version.stored["brand"].to_pylist()
    found = check(text.replace("{brand}", max(sorted(set(brands)), key=brands.count)))
    assert [fault.line for fault in found.contradictions] == [line]
    assert found.contradictions[0].message.startswith(told)


@pytest.mark.parametrize(
    "text",
    [
        '\nkind = "block"\nitems = ["item-00003"]\npages = ["a"]\nkind = "pin"\nitems = ["item-00003"]\npages = ["b"]',
        '\nkind = "pin"\nitems = ["item-3"]\nuntil = 2026-01-01\nkind = "pin"\nitems = ["item-4"]\nfrom = 2026-01-02',
        '\nkind = "cap"\ncolumn = "brand"\nmost = 1\nwithin = 3\nkind = "floor"\nleast = 2\nfilter = "price > 5"',
    ],
)
def test_rules_that_never_meet_contradict_nothing(check: Check, text: str) -> None:
    assert check(text).contradictions == ()


def test_what_the_catalogue_does_not_have_is_told_and_what_may_be_meant(check: Check, engine: Engine) -> None:
    brand = engine.state.version.stored["brand"][0].as_py()
    found = check(f'''\nkind = "block"\nitems = ["nothing"]\nfilter = "brand = '{brand[:-1]}'"''')
    assert found.rows == (("a", "block", 0),)
    assert [fault.message.partition(": ")[2] for fault in found.warnings] == [
        "the catalogue has no item nothing",
        f"no item has brand = {brand[:-1]}; did you mean {brand}?",
    ]


def test_columns_that_there_are_not_are_faults_all_of_them(check: Check) -> None:
    with pytest.raises(BadRules) as refused:
        check(
            '\nkind = "cap"\ncolumn = "brnd"\nmost = 1\nkind = "block"\nfilter = "pric > 3"'
            '\nkind = "boost"\ncolumn = "title"\nkind = "block"\nfilter = "price > cheap"'
        )
    lines = [fault.line for fault in refused.value.faults]
    told = str(refused.value)
    assert lines == [4, 9, 13, 17]
    for part in ("did you mean brand?", "did you mean price?", "name a column of numbers", "price is of type double"):
        assert part in told
