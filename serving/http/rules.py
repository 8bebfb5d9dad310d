"""The rules that an engine applies, and others that are checked over its items."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from serving.engine import Engine
from serving.http.problems import without_folders
from serving.rules.checked import check_rules
from serving.rules.load import BadRules

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def rules_in_force(engine: Engine) -> dict[str, Any]:
    """The rules by which an engine answers, and what is wrong with their file as it is now."""
    rules = engine.state.rules
    told: dict[str, Any] = {"version": "", "file": "", "rules": []}
    if rules is not None:
        ruleset = rules.ruleset
        listed = [rule.model_dump(exclude_none=True, exclude_defaults=True) for rule in ruleset.rules]
        told = {"version": ruleset.version, "file": Path(ruleset.source).name, "rules": listed}
    return {**told, "error": without_folders(engine.rules_error)}


def checked_rules(state: ReleaseState, toml: str) -> dict[str, Any]:
    """What a check of a rules file finds, over the items of a release."""
    with TemporaryDirectory(prefix="shortlist-") as folder:
        path = Path(folder) / "rules.toml"
        path.write_text(toml, encoding="utf-8")
        try:
            found = check_rules(path, state.version, state.analyzer)
        except BadRules as error:
            faults = [line.replace(f"{folder}/", "") for line in error.lines]
            return {"version": "", "rules": [], "faults": faults, "contradictions": [], "warnings": []}
    told = {name: value for name, value in found.to_dict().items() if name != "file"}
    for name in ("contradictions", "warnings"):
        told[name] = [line.replace(f"{folder}/", "") for line in told[name]]  # type: ignore[attr-defined]
    return {**told, "faults": []}
