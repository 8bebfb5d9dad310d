"""Engines that answer under merchandising rules."""

from __future__ import annotations

from collections.abc import Callable

from engine_changes import changed
from serving.engine import Engine
from serving.rules.compiled import CompiledRules
from serving.rules.load import parse_rules

NOW = 1_800_000_000.0  # seconds since 1970: in January 2027, after all events of the generated shop


def ruled(engine: Engine, text: str, now: Callable[[], float] = lambda: NOW) -> Engine:
    """The engine under the rules of a TOML text; a header `[[rule]]` and a name are put before each `kind`."""
    first, *others = text.split("\nkind = ")
    rules = (f'\n[[rule]]\nname = "rule {number}"\nkind = {rule}' for number, rule in enumerate(others))
    text = first + "".join(rules)
    state = engine.state
    return changed(engine, rules=CompiledRules.of(parse_rules(text), state.version, state.analyzer, now))
