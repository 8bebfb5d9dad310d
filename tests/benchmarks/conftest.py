"""A clock of its own for each test, runs on a made-up machine, and a bundle of tiny random models."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from int8_machine import as_where_int8_serves

from benchmark_fakes import FakeTime
from benchmarks.environment import Probe
from benchmarks.result_lines import Run
from made_once import made_once
from retrieval.sample_shop.write import write_sample
from serving.jobs.run import SAMPLE_MARK, Pipeline
from serving.settings import read_settings

QUIET = Probe(100.0, 10.0)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of some day on some machine."""

    def made(day: int = 1, probe: Probe = QUIET, **data: str) -> Run:
        date = f"2026-01-{day:02}T00:00:00+00:00"
        return Run(command="shortlist bench x", date=date, commit="abc", machine={"cores": "2"}, probe=probe, data=data)

    return made


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def write(folder: Path) -> None:
        write_sample(folder / SAMPLE_MARK, items=80, shoppers=120, events=1_800, queries=40)

    return made_once(tmp_path_factory, "benchmarks-data", write) / SAMPLE_MARK


@pytest.fixture(scope="session")
def bundle(
    shop_folder: Path, tiny_encoder_folder: Path, tiny_bert_folder: Path,
    tmp_path_factory: pytest.TempPathFactory, one_thread: None,
) -> Path:  # fmt: skip
    """A bundle whose ranker is on."""
    changes = [
        f"retrieval.text.model={tiny_encoder_folder}", "retrieval.text.examples=64", "retrieval.history.epochs=1",
        "retrieval.history.longest=6", f"ranking.model={tiny_bert_folder}", "ranking.depth=10",
        "ranking.cross_fit_below=0", "ranking.training.examples=32", "ranking.training.valid_pairs=32",
        "ranking.gate=no", "evaluation.rerank_sample=20",
    ]  # fmt: skip
    clock = (datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=look) for look in count())

    def train(folder: Path) -> None:
        settings, out = read_settings(changes=changes), folder / "bundle"
        with warnings.catch_warnings(), as_where_int8_serves():
            warnings.simplefilter("ignore")  # of tracing and of the trainers, whose own tests they are about
            Pipeline(shop_folder, out, settings, "quick", "cpu", lambda _: None, clock.__next__).run()

    return made_once(tmp_path_factory, "benchmarks-run", train) / "bundle"
