"""Writers that are killed while others query, over a bundle of tiny models; `tests/kills.py` runs longer by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLS = 12


@pytest.mark.slow
def test_no_query_fails_and_every_job_ends_well_when_it_is_run_again(own_bundle: Path, sample_folder: Path) -> None:
    script = [sys.executable, str(ROOT / "tests" / "kills.py"), str(own_bundle), str(sample_folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = subprocess.run([*script, "--kills", str(KILLS)], env=environment, capture_output=True, text=True)
    outcome = json.loads(told.stdout)
    assert outcome["wrong"] == []
    assert told.returncode == 0
    assert sum(outcome["kills"].values()) >= KILLS
    assert set(outcome["kills"]) == {"build", "update", "activate", "prune"}
    assert outcome["releases answered from"] > 1
    assert outcome["states answered from"] > outcome["releases answered from"]
