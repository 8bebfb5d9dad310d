"""Public names of a package that are imported on first use (PEP 562), so that importing the package is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from retrieval.extras import missing_dependency

DISTRIBUTION = "shortlist"


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose modules hold public names, given as blank-separated lists.

    `__version__` is that of the distribution. A name whose module needs a package of an extra that is not installed
    raises MissingDependency.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version(DISTRIBUTION)
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(module_of[name]), name)
        except ModuleNotFoundError as error:
            if (missing := missing_dependency(error, f"{package}.{name}")) is not None:
                raise missing from error
            raise

    return get, lambda: sorted(module_of)
