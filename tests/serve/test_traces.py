"""Spans: one a request and one a stage within it, at their times; and what a collector gets of them."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sensorium.errors import MissingExtra, RecipeError
from sensorium.serve.metrics import Route
from sensorium.serve.traces import Traces, address

ASK = Route("shop", "POST", "/v1/recommend")
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_span_a_request_and_a_span_a_stage() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    traces = Traces("http://collector/v1/traces", exporter=memory)
    begin = time.perf_counter()
    now = time.time()
    marks = [("parse", begin + 0.25), ("score", begin + 0.75)]
    traces.answered(ASK, 200, begin, begin + 1.0, marks, [(b"traceparent", PARENT), (b"cookie", b"x")])
    traces.answered(ASK, 503, begin, begin + 1.0, [])
    unsampled = PARENT[:-1] + b"0"
    traces.answered(ASK, 200, begin, begin + 1.0, marks, [(b"traceparent", unsampled)])
    traces._provider.force_flush()
    parse, score, whole, failed = memory.get_finished_spans()
    assert [one.name for one in (parse, score, whole)] == ["parse", "score", "POST /v1/recommend"]
    assert {one.context.trace_id for one in (parse, score, whole)} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert whole.parent.span_id == 0xB7AD6B7169203331
    assert parse.parent.span_id == score.parent.span_id == whole.context.span_id
    assert parse.end_time == score.start_time
    seconds = [(one.end_time - one.start_time) / 1e9 for one in (parse, score, whole)]
    assert seconds == pytest.approx([0.25, 0.5, 1.0], abs=1e-6)
    assert whole.start_time / 1e9 == pytest.approx(now, abs=0.1)
    assert dict(whole.attributes) == {
        "http.request.method": "POST", "http.route": "/v1/recommend", "http.response.status_code": 200,
        "sensorium.tenant": "shop",
    }  # fmt: skip
    assert failed.parent is None
    assert failed.status.status_code.name == "ERROR"
    traces.close()


def test_a_collector_gets_them() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    got: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        traces = Traces(f"http://127.0.0.1:{server.server_port}/v1/traces")
        begin = time.perf_counter()
        traces.answered(ASK, 200, begin, begin + 0.01, [("parse", begin + 0.001)])
        traces.close()  # sends what waits
        server.shutdown()
    spans = [span.name for one in got for r in one.resource_spans for scope in r.scope_spans for span in scope.spans]
    assert sorted(spans) == ["POST /v1/recommend", "parse"]
    names = {a.key: a.value.string_value for one in got for r in one.resource_spans for a in r.resource.attributes}
    assert names["service.name"] == "sensorium"


def test_where_spans_go_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address({}) == ""
    assert address({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}) == "http://a:4318/v1/traces"
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/t"}
    assert address(both) == "http://b/t"
    with pytest.raises(RecipeError, match="collector:4318"):
        Traces("collector:4318")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra, match=r"sensorium\[traces\]"):
        Traces("http://collector/v1/traces", exporter=object())
