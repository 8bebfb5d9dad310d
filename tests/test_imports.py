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


def loaded_by(statement: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(f"import {package}") == set()


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import serving.cli") == set()


def test_naming_the_engine_leaves_the_training_frameworks_out() -> None:
    assert loaded_by("from serving import Engine").isdisjoint(TRAINING)


def test_openvino_is_loaded_without_its_report_of_usage() -> None:
    code = (
        "import sys\nfrom retrieval.encoders.runtime import _library\n_library()\n"
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


def test_only_modules_that_train_import_torch_where_they_begin() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if set(TRAINING) & set(top_level_imports(path))
    }
    assert found == {
        "benchmarks/peers/sasrec.py",
        "ranking/models/late_training.py",
        "ranking/training/collator.py",
        "ranking/models/first_token.py",
        "ranking/training/lora.py",
        "ranking/training/losses.py",
        "ranking/models/int8_calibration.py",
        "ranking/training/initial_model.py",
        "ranking/training/distributed.py",
        "ranking/training/train.py",
        "retrieval/training/length_batches.py",
        "retrieval/encoders/int8_calibration.py",
        "retrieval/training/softmax_sampling.py",
        "retrieval/training/checkpoint.py",
        "retrieval/encoders/cuda.py",
        "retrieval/training/gradient_cache.py",
        "retrieval/towers/sequence_model.py",
        "retrieval/training/item_to_item.py",
        "retrieval/training/losses.py",
        "retrieval/training/hard_negatives.py",
        "retrieval/encoders/int8_layers.py",
        "retrieval/training/text_batches.py",
        "retrieval/training/text_loss.py",
        "retrieval/training/towers.py",
        "retrieval/training/history_tower.py",
        "retrieval/training/text_tower.py",
        "retrieval/training/validation.py",
        "retrieval/training/trainer_progress.py",
    }
