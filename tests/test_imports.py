"""What an import costs: no package loads a training framework before it is asked to train."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("retrieval", "indexing", "ranking", "serving", "benchmarks")
HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "openvino", "matplotlib", "bm25s")
TRAINING = ("torch", "transformers", "sentence_transformers")
MAY_IMPORT_TORCH = {"training", "models", "towers", "encoders", "peers"}  # folders


def loaded_by(statement: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(f"import {package}") == set()


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import serving.cli.app") == set()


def test_naming_the_engine_or_a_run_leaves_the_training_frameworks_out() -> None:
    names = "Engine, Answer, RunSettings, RunResult, read_settings, run"
    assert loaded_by(f"from serving import {names}").isdisjoint(TRAINING)


def test_openvino_is_loaded_without_its_report_of_usage() -> None:
    code = (
        "import sys\nfrom retrieval.encoders.compiled_graph import openvino_library\nopenvino_library()\n"
        "print(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "None"


def top_level_imports(path: Path) -> Iterator[str]:
    """Names of the modules that importing the file at `path` imports, first part only."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_torch_is_imported_at_the_top_only_in_folders_that_need_it() -> None:
    outside = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not MAY_IMPORT_TORCH & set(path.relative_to(ROOT).parts) and set(TRAINING) & set(top_level_imports(path))
    ]
    assert outside == []
