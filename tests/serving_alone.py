"""Requests of every kind, and the script that answers them from a bundle in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.engine import Engine

ANSWERS = """
import json, sys
from serving import Engine

engine = Engine.open(sys.argv[1], device="cpu", precision="fp32")
asked = json.loads(sys.argv[2])
print(json.dumps([getattr(engine, name)(**arguments).to_dict() for name, arguments in asked]))
"""


def requests_of(engine: Engine) -> list[tuple[str, dict[str, object]]]:
    """The name of a method of the engine and its arguments, one request of each kind."""
    user = engine.state.user_store.user_ids[0].as_py()
    return [
        ("recommend", {"user_id": user}),
        ("recommend", {"history": ["item-00001", "item-00002"]}),
        ("search", {"text": "red mgu", "user_id": user}),
        ("similar", {"item_id": "item-00001"}),
        ("complete_cart", {"items": ["item-00001", "item-00002"]}),
    ]


def timeless(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers without what they took."""
    return [{name: value for name, value in answer.items() if name != "timings_ms"} for answer in answers]
