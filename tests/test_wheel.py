"""The built wheel holds the five packages with all their files, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"retrieval", "indexing", "ranking", "serving", "benchmarks"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("shortlist-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_exactly_the_five_packages_at_its_root(wheel: zipfile.ZipFile) -> None:
    roots = {name.split("/")[0] for name in wheel.namelist()}
    (metadata,) = (root for root in roots if root.endswith(".dist-info"))
    assert roots - {metadata} == PACKAGES


def test_each_package_in_the_wheel_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_every_source_and_data_file_of_a_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    kept = {".py", ".json", ".toml", ".j2", ".html", ".css", ".js", ".svg", ".typed"}
    present = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in kept and "__pycache__" not in path.parts
    }
    assert present <= set(wheel.namelist())
    assert "retrieval/sample_shop/words/groceries.zh.json" in present


def test_the_wheel_leaves_out_the_recorded_results_that_the_documents_are_made_of(wheel: zipfile.ZipFile) -> None:
    assert not [name for name in wheel.namelist() if name.endswith(".jsonl")]


def test_the_wheel_installs_the_command_and_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "shortlist = serving.cli.app:app" in wheel.read(names["entry_points.txt"]).decode()
    assert "Apache License" in wheel.read(names["LICENSE"]).decode()
    assert message_from_bytes(wheel.read(names["METADATA"]))["License-Expression"] == "Apache-2.0"
