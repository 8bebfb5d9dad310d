"""Children of a process that opened an engine answer as their parent does, however they came to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "2",  # threads that a child does not have
    "TOKENIZERS_PARALLELISM": "true",
}
GIVEN_UP = 300  # seconds, after which children that never answer are ended
WAYS = [("os", "opened"), ("os", "answering")] + [
    (method, when) for method in ("fork", "spawn", "forkserver") for when in ("opened", "answered")
]


@pytest.mark.parametrize(("method", "when"), WAYS)
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_children_answer_as_their_parent_does(
    bundle_path: Path, tmp_path: Path, runtime: str, method: str, when: str
) -> None:
    program = [sys.executable, str(TESTS / "fork_answers.py"), str(bundle_path), runtime, method, when, str(tmp_path)]
    done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, timeout=GIVEN_UP)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"codes": [0] * 4, "alike": 200, "reranked": told["reranked"], "all": 200}, done.stderr
    assert told["reranked"] > 50
