"""What a shop's service installs: the wheel with the extra cpu alone, in an environment of its own, answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.engine import Engine
from serving_alone import ANSWERS, requests_of, timeless

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment with the built wheel and the extra cpu. Needs a package index."""
    folder = tmp_path_factory.mktemp("install")
    ran(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (wheel,) = folder.glob("shortlist-*.whl")
    ran(sys.executable, "-m", "venv", str(folder / "venv"))
    commands = folder / "venv" / "bin"
    ran(str(commands / "pip"), "install", "--quiet", "-c", "constraints.txt", f"{wheel}[cpu]")
    return commands


def ran(*command: str) -> None:
    """Runs a command in the checkout; where it fails, the test does, with all that it wrote."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"


def run_there(folder: Path, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """A command of the fresh environment, away from the checkout and from its modules."""
    return subprocess.run(command, cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["torch", "transformers", "sentence_transformers", "matplotlib"])
def test_what_only_training_needs_is_not_installed(package: str, installed: Path, tmp_path: Path) -> None:
    done = run_there(tmp_path, [installed / "python", "-c", f"import {package}"])
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{package}'"


def test_it_answers_from_a_bundle_as_the_environment_that_trained_it(
    bundle_path: Path, engine: Engine, installed: Path, tmp_path: Path
) -> None:
    asked = requests_of(engine)
    done = run_there(tmp_path, [installed / "python", "-c", ANSWERS, bundle_path, json.dumps(asked)])
    assert done.returncode == 0, done.stderr
    wanted = [getattr(engine, name)(**arguments).to_dict() for name, arguments in asked]
    assert timeless(json.loads(done.stdout)) == timeless(json.loads(json.dumps(wanted)))


def test_the_command_searches_there(bundle_path: Path, installed: Path, tmp_path: Path) -> None:
    done = run_there(tmp_path, [installed / "shortlist", "search", bundle_path, "red mug", "-k", "3"])
    assert done.returncode == 0, done.stderr
    assert "search: red mug" in done.stdout


def test_training_there_ends_with_one_line_that_names_the_extra(
    sample_folder: Path, installed: Path, tmp_path: Path
) -> None:
    done = run_there(tmp_path, [installed / "shortlist", "run", tmp_path / "bundle", "--data", sample_folder])
    assert done.returncode == 2
    assert re.fullmatch(r"error: .+; run: pip install 'shortlist\[train\]'\n", done.stderr)
    assert not (tmp_path / "bundle").exists()
