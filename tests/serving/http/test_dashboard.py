"""The dashboard: its expressions name metrics that the server has, and a real Prometheus reads and answers them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import uvicorn

from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.metrics import Metrics
from serving.http.observing.seen import Answered, Seen
from serving.request import Answer, Hit

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana.json"
NAME = re.compile(r"\b(?:shortlist_\w+|up)\b")
SECONDS = 60  # to wait for what takes a few


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def told(engine: Engine) -> str:
    """The metrics of a server that had one request of every kind."""
    metrics = Metrics()
    cut = Answer((), "r", fallbacks=("popular items",), degraded=("rerank: failed",), timings_ms={"rank": 1.0})
    metrics.queue(1, 0)
    for answer in (cut, Answer((Hit("i", "mug", 1.0, 1),), "r")):
        metrics.ended(Seen("r", "POST", "/v1/search", 200, 0.1, 1.0, [Answered("search", answer)], 1))
    return metrics.text(engine.state).decode()


def test_expressions_name_metrics_that_the_server_has(dashboard: dict[str, Any], engine: Engine) -> None:
    known = set(re.findall(r"^(\w+)(?:\{| )", told(engine), re.MULTILINE)) | {"up"}
    for expression in expressions(dashboard):
        named = set(NAME.findall(re.sub(r"\{[^}]*\}", "", expression)))
        assert named
        assert named <= known


def test_every_metric_is_on_the_dashboard(dashboard: dict[str, Any], engine: Engine) -> None:
    shown = " ".join(expressions(dashboard))
    told_of = {
        line.split()[2].removesuffix("_total") for line in told(engine).splitlines() if line.startswith("# TYPE")
    }
    assert {name for name in told_of if name not in shown} == set()


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.fixture
def server(engine: Engine) -> Iterator[int]:
    """The port of a server."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        running = uvicorn.Server(uvicorn.Config(make_app(engine), log_config=None, access_log=False))
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        yield bound.getsockname()[1]
        running.should_exit = True
        thread.join()


@pytest.fixture
def prometheus(server: int, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that reads the server every second."""
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus on this machine")
    config = {
        "scrape_configs": [
            {"job_name": "shortlist", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{server}"]}]}
        ]
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # which YAML can be
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}", "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        yield address
        process.terminate()


def ask(address: str, expression: str) -> list[Any]:
    try:
        with urlopen(f"http://{address}/api/v1/query?{urlencode({'query': expression})}") as found:
            result: list[Any] = json.load(found)["data"]["result"]
            return result
    except OSError:
        return []


@pytest.mark.slow
def test_a_real_prometheus_answers_every_expression(dashboard: dict[str, Any], server: int, prometheus: str) -> None:
    def asked_for(route: str) -> None:
        urlopen(f"http://127.0.0.1:{server}{route}").close()

    end = time.monotonic() + SECONDS
    wanted = [text.replace("$__rate_interval", "20s").replace("$job", ".+") for text in expressions(dashboard)]
    while unanswered := [text for text in wanted if not ask(prometheus, text)]:
        asked_for("/v1/search?query=red+mug")
        optional = ("shortlist_degraded_total", "shortlist_fallbacks_total", 'status=~"[45]')  # nothing went wrong
        if all(any(name in text for name in optional) for text in unanswered):
            break
        assert time.monotonic() < end, unanswered
        time.sleep(0.5)
