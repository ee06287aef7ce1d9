"""OpenTelemetry: a span a request, a span a stage within it. They are made when a request is over, out of its marks, so
that answering costs nothing more; and sent in batches by a thread of the SDK.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sensorium.errors import MissingExtra, RecipeError
from sensorium.serve.metrics import Route

_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")


def address(environ: Mapping[str, str]) -> str:
    """Where OpenTelemetry's own variables say that spans go; "" where they say nothing.

    >>> address({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"})
    'http://collector:4318/v1/traces'
    """
    if whole := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""):
        return whole
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    return f"{base}/v1/traces" if base else ""


class Traces:
    """Spans of requests, sent as OTLP over HTTP to an address such as http://collector:4318/v1/traces.

    A `traceparent` that comes with a request is the span's parent, and says whether it is sampled. **Raises** MissingExtra,
    RecipeError for what is no address.
    """

    def __init__(self, address: str, *, exporter: Any = None) -> None:
        if not _ADDRESS.fullmatch(address):
            raise RecipeError(f"--traces {address!r}: write it as http://collector:4318/v1/traces")
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter(endpoint=address)
        except ImportError as error:
            raise MissingExtra(error.name or "opentelemetry", "traces") from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "sensorium"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sensorium.serve")
        self._carried, self._trace = TraceContextTextMapPropagator(), trace

    def answered(
        self, route: Route, status: int, begin: float, end: float, marks: Iterable[tuple[str, float]],
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:  # fmt: skip
        """One request; times as `perf_counter` tells them."""
        trace = self._trace
        shift = time.time() - time.perf_counter()
        carrier = {n.decode(): v.decode("latin-1") for n, v in headers if n in (b"traceparent", b"tracestate")}
        told: dict[str, Any] = {
            "http.request.method": route.method, "http.route": route.template, "http.response.status_code": status,
            "sensorium.tenant": route.tenant,
        }  # fmt: skip
        span = self._tracer.start_span(
            f"{route.method} {route.template}", self._carried.extract(carrier), trace.SpanKind.SERVER, told,
            start_time=_nanoseconds(begin + shift),
        )  # fmt: skip
        if status >= 500:
            span.set_status(trace.Status(trace.StatusCode.ERROR))
        if span.is_recording():
            within = trace.set_span_in_context(span)
            for stage, until in marks:
                part = self._tracer.start_span(stage, within, start_time=_nanoseconds(begin + shift))
                part.end(_nanoseconds(until + shift))
                begin = until
        span.end(_nanoseconds(end + shift))

    def close(self) -> None:
        """Sends what waits, then stops."""
        self._provider.shutdown()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
