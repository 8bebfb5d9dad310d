"""The base package serves: a bundle is answered from where torch is not installed, and what trains names its extra."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

from indexing.bundle.bundle import Bundle
from retrieval.extras import EXTRA_OF
from serving.engine import Engine
from serving_alone import ANSWERS, requests_of, timeless

ROOT = Path(__file__).parents[2]
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({sorted(EXTRA_OF)}))\n"  # what is None cannot be imported
ENDS = """
import json, sys
from typer.testing import CliRunner
from serving.cli.app import app

ends = [CliRunner().invoke(app, words, prog_name="shortlist") for words in json.loads(sys.argv[1])]
print(json.dumps([[end.exit_code, end.stderr] for end in ends]))
"""


def python(code: str, *arguments: str) -> list[Any]:
    """What `code` prints as JSON in a process that can import no package of an extra."""
    command = [sys.executable, "-c", WITHOUT + code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed: list[Any] = json.loads(done.stdout)
    return printed


def test_every_kind_of_request_is_answered_without_torch_as_with_it(bundle_path: Path, engine: Engine) -> None:
    asked = requests_of(engine)
    told = python(ANSWERS, str(bundle_path), json.dumps(asked))
    wanted = [getattr(engine, name)(**arguments).to_dict() for name, arguments in asked]
    assert timeless(told) == timeless(json.loads(json.dumps(wanted)))


def test_whoever_trains_without_the_extra_gets_one_line_that_names_it(
    bundle_path: Path, sample_folder: Path, tmp_path: Path
) -> None:
    bundle, new, data = str(bundle_path), str(tmp_path / "bundle"), ["--data", str(sample_folder)]
    commands = [
        ["run", new, *data],
        ["train", "towers", new, *data],
        ["train", "ranker", bundle, *data],
        ["adopt", new, *data, "--encoder", "sentence-transformers/all-MiniLM-L6-v2"],
        ["evaluate", bundle, *data],
        ["demo", "--out", str(tmp_path / "demo")],
        ["search", bundle, "red mug", "--device", "cuda"],
        ["bench", "recall", *data],
    ]
    for command, (code, complaint) in zip(commands, python(ENDS, json.dumps(commands)), strict=True):
        assert code == 2, command
        assert re.fullmatch(
            r"error: .+ needs \w+, which is not installed; run: pip install 'shortlist\[train\]'\n", complaint
        )


def test_the_nightly_build_of_the_index_needs_no_torch(own_bundle: Path, sample_folder: Path) -> None:
    before = Bundle.open(own_bundle).current_id()
    (end,) = python(ENDS, json.dumps([["index", "build", str(own_bundle), "--data", str(sample_folder)]]))
    assert end == [0, ANY]
    assert Bundle.open(own_bundle).current_id() != before
