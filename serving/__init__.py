"""Answers: open a bundle with `Engine.open(path)` and ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from serving.engine import Engine as Engine
    from serving.request import Answer as Answer
    from serving.request import Hit as Hit
    from serving.request import Request as Request

_MODULES = {
    "serving.engine": "Engine",
    "serving.request": "Answer Hit Request",
}
__all__ = [
    "Answer",
    "Engine",
    "Hit",
    "Request",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
