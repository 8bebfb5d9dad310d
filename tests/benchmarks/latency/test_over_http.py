"""What is measured of the server, on a tiny bundle and a real process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency.over_http import HttpRun, served
from retrieval.errors import BadConfig


@pytest.mark.slow
def test_the_server_is_compared_and_stands_a_load_while_its_bundle_changes(bundle: Path) -> None:
    before = sorted(path.name for path in bundle.iterdir())
    lines = list(HttpRun(bundle, seconds=0.4, steady_seconds=6.0, device="cpu").lines())
    compared = {
        (line.labels["call"], line.labels["callers"], line.labels["by"]): line.summary
        for line in lines
        if line.measured == "over http"
    }
    assert {callers for _, callers, _ in compared} == {"1", "16"}
    assert all(
        summary["times the rate of embedded"] > 0
        for (_, _, by), summary in compared.items()
        if by == "http"  # type: ignore[operator]
    )
    (steady,) = (line.summary for line in lines if line.measured == "steady load over HTTP")
    assert set(steady) & {"answers 2xx", "answers 4xx", "answers 5xx"} == {"answers 2xx"}
    assert steady["releases and rollbacks"] == 3
    assert steady["events kept per second"]
    assert sorted(path.name for path in bundle.iterdir()) == before


@pytest.mark.slow
def test_a_server_that_cannot_begin_is_told_with_what_it_said(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    with pytest.raises(BadConfig, match="the server did not begin: error: "), served(folder, workers=1, device="cpu"):
        pass
