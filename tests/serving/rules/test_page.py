"""The example of the page about rules is one that can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from serving.engine import Engine
from serving.rules.checked import check_rules
from serving.rules.load import KINDS

PAGE = Path(__file__).parents[3] / "docs/rules.md"


def test_the_example_has_every_kind_of_rule_without_a_fault_or_a_contradiction(engine: Engine, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "rules.toml"
    path.write_text(example, "utf-8")
    found = check_rules(path, engine.state.version, engine.state.analyzer)
    assert found.contradictions == ()
    assert {kind for _, kind, _ in found.rows} == set(KINDS) - {"bury"}
