"""What is added to a bundle beside its parts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from indexing.bundle.bundle import Bundle
from serving.answering.release_settings import StepSettings
from serving.jobs.bundle_parts import Assembly
from serving.settings import RunSettings


def test_a_ranker_trained_on_a_gpu_has_the_graph_that_cpus_serve(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    folder, bundle = shutil.copytree(tiny_ranker_folder, tmp_path / "ranker"), Bundle.create(tmp_path / "bundle")
    assembly = Assembly(bundle, RunSettings(), "cuda", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    with bundle.lock():
        name = assembly.add_ranker(folder, [StepSettings(model="full", depth=10)])
    assert (bundle.path / "runtime" / name / "cross_encoder.xml").is_file()
