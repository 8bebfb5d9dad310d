"""A whole run on a CUDA device, and its release answered from there and from the CPU."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexing.bundle.bundle import Bundle
from serving.engine import Engine
from serving.jobs.run import Pipeline
from serving.settings import RunSettings

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu_bundle(
    sample_folder: Path, quick_settings: RunSettings, make_pipeline: object, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("gpu") / "bundle"
    assert callable(make_pipeline)
    pipeline = make_pipeline(sample_folder, out, quick_settings)
    assert isinstance(pipeline, Pipeline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replace(pipeline, device="cuda").run()
    return out


@pytest.mark.parametrize("trained_on", ["cuda", "cpu"])
def test_a_release_answers_alike_on_the_device_and_on_the_cpu(
    trained_on: str, gpu_bundle: Path, bundle_path: Path
) -> None:
    folder = gpu_bundle if trained_on == "cuda" else bundle_path
    there, here = Engine.open(folder, device="cuda"), Engine.open(folder, device="cpu", precision="fp32")
    assert there.state.version.index.placement.startswith("cuda:0: FAISS Index")
    assert all(step.scorer.placement.device == "cuda" for step in there.state.steps)
    shared = []
    for query in ("red mug", "garden chair", "lamp", "oil"):
        found, wanted = ([hit.item_id for hit in engine.search(query, k=20).items] for engine in (there, here))
        shared.append(len(set(found) & set(wanted)) / len(wanted))
    assert np.mean(shared) >= 0.8


def test_a_release_trained_on_the_device_is_served_by_cpus_without_torch(gpu_bundle: Path) -> None:
    runtime, release = gpu_bundle / "runtime", Bundle.open(gpu_bundle).current()
    assert release.ranker is not None
    assert {"encoder.xml", "history.xml"} <= {path.name for path in (runtime / release.towers).glob("*.xml")}
    assert (runtime / release.ranker / "cross_encoder.xml").is_file()
