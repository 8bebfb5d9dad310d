"""Packages that only an extra installs: where one is missing, the one line that names its extra."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

from retrieval.errors import MissingDependency

EXTRA_OF = {
    "accelerate": "train",
    "datasets": "train",
    "duckdb": "import",
    "lightgbm": "lambdamart",
    "matplotlib": "train",
    "sentence_transformers": "train",
    "torch": "train",
    "transformers": "train",
    "peft": "lora",
    "redis": "redis",
    "fastapi": "serve",
    "httptools": "serve",
    "httpx": "client",
    "opentelemetry": "otel",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "uvloop": "serve",
}  # import name: the extra of pyproject.toml that installs it


def require_extra(extra: str, purpose: str) -> None:
    """Raises MissingDependency where a package of `extra` is not installed; see `require`."""
    for package in (name for name, extra_of in EXTRA_OF.items() if extra_of == extra):
        require(package, purpose)


def require(package: str, purpose: str) -> None:
    """Raises MissingDependency where `package`, a key of `EXTRA_OF`, is not installed. Imports nothing.

    `purpose` is the subject of the message: "LoRA", "device=cuda".
    """
    if find_spec(package) is None:
        raise MissingDependency(_line(package, purpose))


def missing_dependency(error: ImportError, purpose: str) -> MissingDependency | None:
    """What to raise in place of a failed import of a package of an extra; None for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF or find_spec(package) is not None:
        return None
    return MissingDependency(_line(package, purpose))


def installed_versions(*distributions: str) -> dict[str, str]:
    """The version of each distribution that is installed, by name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _line(package: str, purpose: str) -> str:
    extra = EXTRA_OF[package]
    return f"{purpose} needs {package}, which is not installed; run: pip install 'shortlist[{extra}]'"
