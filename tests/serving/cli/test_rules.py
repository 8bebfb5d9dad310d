"""`shortlist rules`: a check tells everything at once, a try shows two answers beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.cli.app import app

RULES = """\
version = "trial"
[[rule]]
name = "pin it"
kind = "pin"
items = ["item-00050"]
pages = ["home"]
audience = { country = "DE" }
"""


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "trial.toml"
    path.write_text(RULES, "utf-8")
    return path


def test_a_check_counts_items_and_names_what_is_wrong(bundle_path: Path, rules: Path, tmp_path: Path) -> None:
    done = shortlist("rules", "check", bundle_path, "--rules", rules, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["rules"] == [{"name": "pin it", "kind": "pin", "items": 1}]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RULES + '[[rule]]\nname = "no"\nkind = "block"\nitems = ["item-00050"]\n', "utf-8")
    done = shortlist("rules", "check", bundle_path, "--rules", wrong)
    assert done.exit_code == 2
    assert "wrong.toml:5: rule 'pin it': pins item-00050, which rule 'no' never lets be answered" in done.stdout
    assert done.stderr.strip().endswith("1 contradiction; correct what is named above")


def test_a_check_of_a_file_alone_tells_its_faults_in_one_line_each(rules: Path, tmp_path: Path) -> None:
    assert shortlist("rules", "check", rules).exit_code == 0
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RULES.replace("pages", "pagse").replace('"pin"', '"pin"\nplace = 0'), "utf-8")
    done = shortlist("rules", "check", wrong)
    assert done.exit_code == 2
    assert "wrong.toml:5: rule 'pin it': place is 0" in done.stderr
    assert "wrong.toml:7: rule 'pin it': pagse is not known here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_try_shows_before_and_after(bundle_path: Path, rules: Path) -> None:
    asked = ("--query", "red mug", "--page", "home", "--audience", "country=DE", "--device", "cpu", "--no-rerank")
    done = shortlist("rules", "try", bundle_path, "--rules", rules, *asked, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["before"]["rules"], found["after"]["rules"]) == ("", "trial")
    assert found["after"]["items"][0]["item_id"] == "item-00050"
    assert found["after"]["items"][0]["rules"] == ["pin it"]
    shown = shortlist("rules", "try", bundle_path, "--rules", rules, *asked).stdout
    assert "rules none beside trial" in shown
    assert "pin it" in shown
    other = shortlist("rules", "try", bundle_path, "--rules", rules, *asked[:4], "--device", "cpu", "--json")
    assert not any("rules" in hit for hit in json.loads(other.stdout)["after"]["items"])
    wrong = shortlist("recommend", bundle_path, "--history", "item-00003", "--audience", "DE")
    assert (wrong.exit_code, "write it as NAME=VALUE" in wrong.stderr) == (2, True)
