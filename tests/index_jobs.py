"""Builds of an index from a small catalogue that a test changes. A test file takes the fixtures by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from serving.cli.app import app
from serving.jobs.build_index import IndexBuild
from serving.jobs.run import Pipeline
from serving.settings import RunSettings

Make = Callable[[Path, Path, RunSettings], Pipeline]
Build = Callable[..., IndexBuild]


@pytest.fixture
def items(sample_folder: Path) -> pa.Table:
    return pq.read_table(sample_folder / "items.parquet")


@pytest.fixture
def data(sample_folder: Path, tmp_path: Path) -> Path:
    """The catalogue alone, to be changed."""
    return catalogue(tmp_path / "data", pq.read_table(sample_folder / "items.parquet"))


@pytest.fixture
def job(data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunSettings, build_index: Build) -> Build:
    """An index build of that catalogue into a bundle of one's own."""
    return lambda **options: build_index(make_pipeline(data, own_bundle, quick_settings), **options)


def catalogue(folder: Path, items: pa.Table) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(items, folder / "items.parquet")
    return folder


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


def retitled(items: pa.Table, *titles: str) -> pa.Table:
    return with_column(items, "title", [*titles, *items["title"].to_pylist()[len(titles) :]])


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["index", "build", *map(str, arguments), "--device", "cpu"])
    return done.exit_code, done.stdout, done.stderr


def lines_of(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]
