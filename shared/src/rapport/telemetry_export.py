"""The exporting side of telemetry: OTLP/HTTP, bounded, redacted. Imported only when it is on."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Status

from rapport import redaction
from rapport import telemetry_names as names
from rapport.metrics_export import OtlpMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.trace import Tracer

    from rapport.telemetry_settings import TelemetrySettings

MAX_LINKS = 2_048


class Exporting:
    """Tracer providers, processor and exporters of one process."""

    def __init__(self, service: str, settings: TelemetrySettings) -> None:
        """Start what the settings want."""
        resource = Resource.create(
            {
                "service.name": settings.service_name or service,
                "service.namespace": "rapport",
                "service.instance.id": str(uuid.uuid4()),
            },
            names.SCHEMA_URL,
        )
        self._stops: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._tracers: tuple[Tracer, Tracer] | None = None
        if settings.traces_wanted:
            self._start_traces(resource, settings)
        if settings.metrics_wanted:
            metrics = OtlpMetrics(resource, settings.metric_export_interval / 1_000)
            self._stops.append((metrics.stop, metrics.abandon))

    def _start_traces(self, resource: Resource, settings: TelemetrySettings) -> None:
        exporter = OTLPSpanExporter()
        batching = BatchSpanProcessor(exporter)
        processor = RedactingProcessor(batching)
        limits = SpanLimits(max_links=settings.span_link_count_limit or MAX_LINKS)

        def provider(**sampler: object) -> TracerProvider:
            made = TracerProvider(
                resource=resource,
                shutdown_on_exit=False,
                span_limits=limits,
                **sampler,  # type: ignore[arg-type]  # none: the SDK reads OTEL_TRACES_SAMPLER
            )
            made.add_span_processor(processor)
            return made

        providers = (provider(), provider(sampler=ALWAYS_ON))
        first, second = (p.get_tracer(names.SCOPE, None, names.SCHEMA_URL) for p in providers)
        self._tracers = (first, second)
        self._stops.append((batching.shutdown, exporter.shutdown))

    def tracers(self) -> tuple[Tracer, Tracer]:
        """Return the tracer that asks the sampler, and the one that always records."""
        if self._tracers is None:
            msg = "traces are not exported"
            raise RuntimeError(msg)
        return self._tracers

    def stop(self, timeout_seconds: float) -> None:
        """Export what is queued; after the time-out, give it up."""
        threads = [threading.Thread(target=stop, daemon=True) for stop, _ in self._stops]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout_seconds
        for thread, (_, abandon) in zip(threads, self._stops, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                abandon()


class RedactingProcessor(SpanProcessor):
    """Passes spans on with registered attributes only, and with masked texts.

    Values of registered span attributes are identifiers, names and counts that our own code sets;
    texts of exceptions and statuses come from anywhere, so they are masked.
    """

    def __init__(self, inner: SpanProcessor) -> None:
        """Pass clean spans to `inner`."""
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell the inner processor."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass the span on, as a redacted copy if anything in it has to go."""
        self._inner.on_end(span if _is_clean(span) else _redacted(span))

    def shutdown(self) -> None:
        """Shut the inner processor down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner processor."""
        return self._inner.force_flush(timeout_millis)


def _is_clean(span: ReadableSpan) -> bool:
    plain = not span.events and not span.status.description
    return plain and names.SPAN_ATTRIBUTES.issuperset(span.attributes or ())


def _redacted(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    description = redaction.text(status.description) if status.description else None
    return ReadableSpan(
        name=redaction.text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_registered(span.attributes, names.SPAN_ATTRIBUTES),
        events=[
            Event(
                redaction.text(event.name),
                _registered(event.attributes, names.EVENT_ATTRIBUTES),
                event.timestamp,
            )
            for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, description),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _registered(
    attributes: Mapping[str, object] | None, known: frozenset[str]
) -> dict[str, str | bool | int | float]:
    kept = {k: v for k, v in (attributes or {}).items() if k in known}
    return {
        key: value if isinstance(value, bool | int | float) else redaction.text(str(value))
        for key, value in kept.items()
    }
