"""A process that records is killed at any moment: nothing that it acknowledged is lost, and nothing counts twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.data.dataset import DataSet
from serving.engine import Engine

ROOT = Path(__file__).parents[3]


def killed(place: Path, item: str, kills: int) -> dict[str, object]:
    arguments = [sys.executable, str(ROOT / "tests" / "live_kills.py"), str(place), item, str(kills)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_what_a_killed_process_acknowledged_counts_once(
    kills: int, bundle_path: Path, data: DataSet, tmp_path: Path
) -> None:
    place, item = tmp_path / "events.sqlite", data.item_ids[0]
    found = killed(place, item, kills)
    assert found["lost"] == []
    assert found["stored"] == found["kinds"]
    assert int(str(found["stored"])) >= int(str(found["acknowledged"]))
    with Engine.open(bundle_path, device="cpu", events=place) as engine, Engine.open(bundle_path, device="cpu") as none:
        row = int(none.state.version.rows_of([item])[0])
        counted = engine.state.retriever.popularity[row] - none.state.retriever.popularity[row]
        assert counted == found["stored"]
