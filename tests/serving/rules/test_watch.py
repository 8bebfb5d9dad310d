"""A rules file is followed while an engine is open; what cannot be used leaves what was in force."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from engine_changes import ids
from retrieval.errors import BadConfig
from serving.engine import Engine
from serving.rules.watch import RULES_FILE

PIN = '[[rule]]\nname = "pin"\nkind = "pin"\nitems = ["{item}"]\n'


@pytest.fixture
def rules(own_bundle: Path) -> Path:
    """The rules file of a bundle to write to, which is not there yet."""
    return own_bundle / RULES_FILE


def test_changes_answer_within_half_a_second_and_bad_ones_change_nothing(
    own_bundle: Path, rules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = [0.0]
    with Engine.open(own_bundle, device="cpu", clock=lambda: seconds[0]) as engine:

        def first() -> tuple[str, str]:
            seconds[0] += 0.6
            answer = engine.search("red mug")
            return ids(answer)[0], answer.rules

        plain, version = first()
        assert version == ""
        rules.write_text('version = "one"\n' + PIN.format(item="item-00050"), "utf-8")
        assert first() == ("item-00050", "one")
        with caplog.at_level(logging.WARNING):
            rules.write_text(PIN.format(item="item-00051").replace("pin", "pinn"), "utf-8")
            assert first() == ("item-00050", "one")
        assert "rules.toml:3: rule 'pinn': kind is 'pinn'" in engine.rules_error
        assert "the rules read before stay in force" in caplog.text
        rules.write_text('version = "two"\n' + PIN.format(item="item-00052"), "utf-8")
        assert first() == ("item-00052", "two")
        assert engine.rules_error == ""
        rules.unlink()
        assert first() == (plain, "")


def test_rules_that_cannot_be_used_are_refused_when_an_engine_opens(own_bundle: Path, rules: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read as rules"):
        Engine.open(own_bundle, rules=rules.with_name("no-such-file.toml"))
    rules.write_text('[[rule]]\nname = "a"\nkind = "cap"\ncolumn = "colour"\nmost = 1\n', "utf-8")
    with pytest.raises(BadConfig, match=r"rules\.toml:4: rule 'a': items have no column colour"):
        Engine.open(own_bundle, device="cpu")


def test_dates_are_compared_with_the_wall_clock(own_bundle: Path, rules: Path) -> None:
    rules.write_text(PIN.format(item="item-00050") + "from = 1970-01-02\nuntil = 1970-01-02\n", "utf-8")
    seconds = [0.0]
    with Engine.open(own_bundle, device="cpu", auto_reload=False, wall_clock=lambda: seconds[0]) as engine:
        found = []
        for seconds[0] in (86_399.0, 86_400.0, 172_799.0, 172_800.0):
            found.append(ids(engine.search("red mug"))[0] == "item-00050")
    assert found == [False, True, True, False]
