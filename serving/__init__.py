"""Train and publish a release with `run(bundle, data)`; answer from it with `Engine.open(bundle)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from serving.audit.log import AuditLog as AuditLog
    from serving.engine import Engine as Engine
    from serving.explanation import Explanation as Explanation
    from serving.jobs.api import run as run
    from serving.jobs.run import RunResult as RunResult
    from serving.request import Answer as Answer
    from serving.request import Condition as Condition
    from serving.request import Filters as Filters
    from serving.request import Hit as Hit
    from serving.request import Request as Request
    from serving.settings import RunSettings as RunSettings
    from serving.settings import read_settings as read_settings
    from serving.why_not.result import WhyNot as WhyNot

    __version__: str

_MODULES = {
    "serving.audit.log": "AuditLog",
    "serving.engine": "Engine",
    "serving.explanation": "Explanation",
    "serving.jobs.api": "run",
    "serving.jobs.run": "RunResult",
    "serving.request": "Answer Condition Filters Hit Request",
    "serving.settings": "RunSettings read_settings",
    "serving.why_not.result": "WhyNot",
}
__all__ = [
    "Answer",
    "AuditLog",
    "Condition",
    "Engine",
    "Explanation",
    "Filters",
    "Hit",
    "Request",
    "RunResult",
    "RunSettings",
    "WhyNot",
    "read_settings",
    "run",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
