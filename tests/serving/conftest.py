"""A generated shop and a bundle of tiny random models over it, made once by a whole run."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from int8_machine import as_where_int8_serves

from engine_changes import changed
from made_once import made_once
from retrieval.data.dataset import DataSet, load
from retrieval.sample_shop.write import write_sample
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE
from serving.jobs.build_index import IndexBuild, IndexJob
from serving.jobs.job_log import JobLog
from serving.jobs.run import SAMPLE_MARK, Pipeline, RunResult
from serving.settings import RunSettings, read_settings
from serving.shop import Shop

FIRST_RUN = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=look) for look in count())
CLOCK = (datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=look) for look in count())
LONGEST = 6  # events of a history: fewer than many shoppers have


@pytest.fixture
def quiet_trainers() -> Iterator[None]:
    """For tests of whole runs: tracing and the trainers warn of what these are not about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files of the contract, small."""

    def write(folder: Path) -> None:
        write_sample(folder / SAMPLE_MARK, items=120, shoppers=150, events=2_500, queries=60)

    return made_once(tmp_path_factory, "serving-data", write) / SAMPLE_MARK


@pytest.fixture(scope="session")
def data(sample_folder: Path) -> DataSet:
    return load(sample_folder)


@pytest.fixture(scope="session")
def quick_changes(tiny_encoder_folder: Path, tiny_bert_folder: Path) -> list[str]:
    """What `--set` is given for a whole run to take seconds."""
    return [
        f"retrieval.text.model={tiny_encoder_folder}",
        "retrieval.text.examples=192",
        "retrieval.history.epochs=1",
        f"retrieval.history.longest={LONGEST}",
        f"ranking.model={tiny_bert_folder}",
        "ranking.depth=10",
        "ranking.cross_fit_below=0",
        "ranking.min_gate=5",
        "ranking.training.examples=64",
        "ranking.training.valid_pairs=64",
        "evaluation.rerank_sample=20",
    ]


@pytest.fixture(scope="session")
def quick_settings(quick_changes: list[str]) -> RunSettings:
    """The settings of it."""
    return read_settings(changes=quick_changes)


@pytest.fixture(scope="session")
def run_result(
    sample_folder: Path, quick_settings: RunSettings, tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> RunResult:
    """What a whole run over the shop left."""

    def train(folder: Path) -> None:
        pipeline = replace(quick_pipeline(sample_folder, folder / "bundle", quick_settings), now=FIRST_RUN.__next__)
        with warnings.catch_warnings(), as_where_int8_serves():
            warnings.simplefilter("ignore")  # of tracing and of the trainers, whose own tests they are about
            (folder / "result").write_bytes(pickle.dumps(pipeline.run()))

    found: RunResult = pickle.loads((made_once(tmp_path_factory, "serving-run", train) / "result").read_bytes())
    return found


@pytest.fixture(scope="session")
def bundle_path(run_result: RunResult) -> Path:
    """The bundle of that run; nobody writes to it."""
    return run_result.report.parent


@pytest.fixture(scope="session")
def engine(bundle_path: Path) -> Engine:
    """Its live release, as the gates left it."""
    return Engine.open(bundle_path, device="cpu")


@pytest.fixture(scope="session")
def reranking(engine: Engine) -> Engine:
    """The engine with every gate open, whatever the tiny ranker is worth."""
    return changed(engine, reranks=EVERY_GATE)


@pytest.fixture
def own_bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to write to."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[[Path, Path, RunSettings], Pipeline]:
    """See `quick_pipeline`."""
    return quick_pipeline


@pytest.fixture(scope="session")
def open_shop() -> Callable[[Path, RunSettings], Shop]:
    """A data set, read and split."""
    return lambda folder, settings: Shop.open(folder, settings.data, now=next(CLOCK))


@pytest.fixture(scope="session")
def build_index() -> Callable[..., IndexBuild]:
    """`index build` of a pipeline; further arguments are those of `IndexJob`."""

    def build(pipeline: Pipeline, **options: object) -> IndexBuild:
        given = {"max_change": 0.3, "log": JobLog(now=pipeline.now), **options}
        return IndexJob(pipeline=pipeline, **given).run()  # type: ignore[arg-type]

    return build


def quick_pipeline(data: Path, out: Path, settings: RunSettings) -> Pipeline:
    """A silent pipeline on the CPU, whose clock begins after the last event and goes on a second a look."""
    return Pipeline(data, out, settings, "quick", "cpu", say=lambda _: None, now=CLOCK.__next__)
