"""Traces: a span for each request below the caller's, with one for each stage, sent where the environment says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from retrieval import extras
from retrieval.errors import MissingDependency
from serving.answering.pipeline import STAGES
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.observing import Observing, observing
from serving.http.observing.tracing import ENDPOINTS, Tracing, is_configured

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(engine: Engine, spans: InMemorySpanExporter) -> Iterator[TestClient]:
    watched = Observing(others=(Tracing(SimpleSpanProcessor(spans)),))
    with TestClient(make_app(engine, observing=watched)) as client:
        yield client


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def test_a_request_is_a_span_below_the_callers(client: TestClient, spans: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    client.post("/v1/recommend", json={"user_id": "ann-secret", "k": 2}, headers=headers)
    span = named(spans, "POST /v1/recommend")
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.context.trace_state["vendor"] == "1"
    assert span.kind is SpanKind.SERVER
    assert span.attributes is not None
    assert span.attributes["shortlist.items"] == 2
    assert span.attributes["http.response.status_code"] == 200
    assert "ann-secret" not in span.to_json()
    assert span.resource.attributes["service.name"] == "shortlist"


def test_stages_are_spans_within_it_one_after_the_other(client: TestClient, spans: InMemorySpanExporter) -> None:
    client.post("/v1/search", json={"query": "red mug"})
    whole = named(spans, "POST /v1/search")
    stages = [span for span in spans.get_finished_spans() if span is not whole]
    assert [span.name for span in stages] == [stage.__name__ for stage in STAGES]
    assert all(span.parent is not None and span.parent == whole.context for span in stages)
    ends = [whole.start_time, *(span.end_time for span in stages)]
    assert [span.start_time for span in stages] == ends[:-1]
    assert whole.end_time is not None
    assert all(end is not None and end <= whole.end_time for end in ends)


def test_a_caller_that_is_not_traced_makes_no_span(client: TestClient, spans: InMemorySpanExporter) -> None:
    client.get("/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert not spans.get_finished_spans()
    client.get("/healthz", headers={"traceparent": "nonsense"})
    assert named(spans, "GET /healthz").parent is None


def test_a_fault_of_the_server_is_an_error_and_one_of_the_caller_is_not(
    client: TestClient, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/v1/search", json={})
    assert named(spans, "POST /v1/search").status.status_code is StatusCode.UNSET
    monkeypatch.setattr(Engine, "answer", lambda *_, **__: 1 / 0)
    client.post("/v1/recommend", json={})
    assert named(spans, "POST /v1/recommend").status.status_code is StatusCode.ERROR


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a collector, and what it got."""
    got: list[tuple[str, bytes]] = []

    class Collects(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collects) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def test_spans_are_sent_where_the_environment_says_when_the_server_ends(
    engine: Engine, collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = collector
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert not is_configured()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    with observing(1) as watched, TestClient(make_app(engine, observing=watched)) as client:
        client.post("/v1/recommend", json={"user_id": "ann-secret"})
    ((path, body),) = got
    assert path == "/v1/traces"
    assert b"POST /v1/recommend" in body
    assert b"ann-secret" not in body


def test_without_opentelemetry_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"tracing needs opentelemetry.*pip install 'shortlist\[otel\]'"):
        Tracing()
