"""Traces by OpenTelemetry: a span for each request, and within it one for each stage of its answer."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from retrieval.extras import require_extra
from serving.http.observing.seen import Seen

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAME = "shortlist"
SECOND, MILLISECOND = 1_000_000_000, 1_000_000  # nanoseconds
FAULT = 500  # the first HTTP status that is the server's fault


def is_configured() -> bool:
    """Whether the environment names where traces are sent to."""
    return any(os.environ.get(name) for name in ENDPOINTS)


class Tracing:
    """An observer that sends spans; further settings are OpenTelemetry's own, such as OTEL_TRACES_SAMPLER.

    Spans are made when a request has ended. Of a stage it is known how long it took: stages are put one after the other
    from the begin of the request on. `processor` takes the place of a batch exporter over HTTP.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """Raises MissingDependency where OpenTelemetry is not installed."""
        require_extra("otel", "tracing")
        self._processor = processor

    @cached_property
    def _provider(self) -> TracerProvider:
        """Made at the first request, as its thread has to run in the worker, after the fork."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": NAME}
        provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
        provider.add_span_processor(self._processor or BatchSpanProcessor(OTLPSpanExporter()))
        return provider

    def ended(self, seen: Seen) -> None:
        """See `serving.http.observing.seen.Observer`."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        tracer = self._provider.get_tracer(NAME)
        end = round(seen.ended * SECOND)
        begin = end - round(seen.seconds * SECOND)
        span = tracer.start_span(
            f"{seen.method} {seen.route}",
            context=_context(seen),
            kind=SpanKind.SERVER,
            start_time=begin,
            attributes={
                "http.request.method": seen.method,
                "http.route": seen.route,
                "http.response.status_code": seen.status,
                "shortlist.request_id": seen.request_id,
                "shortlist.task": seen.task,
                "shortlist.release": seen.release,
                "shortlist.items": seen.items,
                "shortlist.degraded": seen.degraded,
            },
        )
        if seen.status >= FAULT:
            span.set_status(Status(StatusCode.ERROR))
        within, at = set_span_in_context(span), begin
        for stage, ms in seen.timings_ms.items():
            until = min(end, at + round(ms * MILLISECOND))
            tracer.start_span(stage, context=within, start_time=at).end(until)
            at = until
        span.end(end)

    def close(self) -> None:
        """Sends what is left."""
        if "_provider" in vars(self):
            self._provider.shutdown()


def _context(seen: Seen) -> Context:
    """The span that a request came from, by the W3C headers."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(seen.trace)
