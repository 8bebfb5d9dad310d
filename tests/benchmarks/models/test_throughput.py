"""Ways of running a cross-encoder: each model is opened once, and every way gives the logits of its last model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.throughput import CASCADE_DEPTH, RERANK_RUNNERS, OpenModels, rerank_lines
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.strategies import SHALLOW

ITEMS = [f"{colour} {thing}" for colour in ("red", "blue", "steel") for thing in ("mug", "drill", "lamp", "saw", "oil")]


@pytest.fixture(scope="module")
def ranker(tiny_ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranker") / "ranker"
    shutil.copytree(tiny_ranker_folder, folder)
    shutil.copytree(tiny_ranker_folder, folder / SHALLOW)
    return folder


def ways(*names: str) -> list:
    return [way for way in RERANK_RUNNERS if way.name in names]


def test_a_cascade_ends_with_the_full_models_logits_of_the_best(ranker: Path) -> None:
    models, pairs = OpenModels("cpu"), [("red mug", item) for item in ITEMS]
    full, cascade = (way.open(ranker, models)(pairs)() for way in ways("torch", f"cascade to {CASCADE_DEPTH}"))
    kept = np.isfinite(cascade)
    assert kept.sum() == CASCADE_DEPTH
    np.testing.assert_allclose(cascade[kept], full[kept], atol=1e-4)
    assert full[kept].min() >= full[~kept].max() - 1e-4  # the shallow model is a copy of the full one


def test_every_way_reads_as_much_of_a_pair(ranker: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ranker, tmp_path / "ranker"))
    config = folder / SHALLOW / "sentence_bert_config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"max_seq_length": 12}), "utf-8")
    pairs = [("red mug", " ".join(ITEMS))] * 2  # longer than the shallow model would read by itself
    full, shallow = (way.open(folder, OpenModels("cpu"))(pairs)() for way in ways("openvino", "shallow"))
    np.testing.assert_allclose(shallow, full, atol=1e-4)


def test_a_model_is_opened_once_for_all_ways(ranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    load = CrossEncoderScorer.load
    monkeypatch.setattr(
        CrossEncoderScorer, "load", lambda folder, **given: opened.append(folder) or load(folder, **given)
    )
    wanted = ways("torch", "openvino", "shallow", f"cascade to {CASCADE_DEPTH}")
    lines = list(rerank_lines(wanted, ranker, "red mug", ITEMS, sizes=(4, 20), device="cpu", rounds=1))
    assert len(lines) == 8
    assert opened == [ranker, ranker, ranker / SHALLOW]  # on torch, on OpenVINO, the shallow one
    assert all((line.summary["difference"] or 0) < 1e-4 for line in lines)
