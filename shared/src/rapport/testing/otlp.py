"""A small OTLP/HTTP receiver: takes spans and metrics, keeps them for a test to look at."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids are lower-case hex, `links` are (trace id, span id)."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    events: tuple[dict[str, Any], ...]
    error: bool
    started_ns: int
    ended_ns: int
    schema_url: str


class OtlpReceiver:
    """Listens on a free port of the loopback address while it is entered.

    `environment` holds the variables that make a process export to it.
    """

    def __init__(self) -> None:
        """Take a free port; nothing is received before it is entered."""
        self.spans: list[Span] = []
        self.metrics: list[Any] = []
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,)).start()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Value for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process whose every trace is to be seen here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BSP_MAX_QUEUE_SIZE": "65536",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    async def wait_for(self, seen: Callable[[list[Span]], object], seconds: float = 10) -> None:
        """Return as soon as `seen(spans)` is true; raises TimeoutError listing what came."""
        deadline = time.monotonic() + seconds
        while not seen(list(self.spans)):
            if time.monotonic() > deadline:
                arrived = sorted({f"{span.service}: {span.name}" for span in self.spans})
                msg = f"after {seconds} s only these spans have come: {arrived}"
                raise TimeoutError(msg)
            await asyncio.sleep(POLL_SECONDS)

    def children_of(self, span: Span) -> list[Span]:
        """Return the spans whose parent it is."""
        return [s for s in self.spans if (s.trace_id, s.parent_id) == (span.trace_id, span.span_id)]

    def take(self, path: str, body: bytes) -> None:
        """Decode the body of one request."""
        self.bodies.append(body)
        if path == "/v1/traces":
            self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics += [m for scope in resource.scope_metrics for m in scope.metrics]


def _spans(request: ExportTraceServiceRequest) -> Iterable[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, service, scope.schema_url)


def _span(span: ProtoSpan, service: str, schema_url: str) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        events=tuple({"name": e.name, **_attributes(e.attributes)} for e in span.events),
        error=span.status.code == span.status.STATUS_CODE_ERROR,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        schema_url=schema_url,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {p.key: getattr(p.value, p.value.WhichOneof("value") or "string_value") for p in pairs}


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler
