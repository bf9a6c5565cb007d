"""Traces along the way of an event, through OpenTelemetry; cheap no-ops until configured.

A traceparent (W3C) is stored with each outbox row and travels in the record's header. Spans of one
event are made only where that traceparent is sampled; batches link to the sampled ones in them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from rapport import telemetry_names as names
from rapport.telemetry_settings import TelemetrySettings
from rapport.traceparent import formatted, is_sampled, new_root, parent_of, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from uuid import UUID

    from opentelemetry.trace import Span, SpanContext, Tracer

    from rapport.telemetry_export import Exporting

_SHUTDOWN_SECONDS = 3.0

Attributes = dict[str, str | int]


class _State:
    """What `configure` made. `tracer` asks the sampler for new traces; `sampled` always records."""

    tracer: Tracer | None = None
    sampled: Tracer | None = None
    exporting: Exporting | None = None


_state = _State()


class Traced(Protocol):
    """A record as a consumer sees it; `rapport.messaging.envelope.Envelope` is one."""

    @property
    def id(self) -> UUID | str:
        """Identifier of the event."""
        ...

    @property
    def type(self) -> str:
        """CloudEvents type."""
        ...

    @property
    def partition(self) -> int | None:
        """Partition it came by; None for a timer."""
        ...

    @property
    def offset(self) -> int | None:
        """Kafka offset it came at."""
        ...

    @property
    def trace(self) -> str | None:
        """Its `traceparent` header: the creation context."""
        ...


def configure(service: str, settings: TelemetrySettings | None = None) -> None:
    """Start exporting as the standard `OTEL_*` variables say; without them everything stays off.

    A collector that is missing or dead costs a bounded queue and nothing else.
    """
    settings = settings or TelemetrySettings()
    if _state.exporting is not None or not (settings.traces_wanted or settings.metrics_wanted):
        return
    from rapport.telemetry_export import Exporting  # noqa: PLC0415  the SDK costs 15 MB: only if on

    _state.exporting = Exporting(service, settings)
    if settings.traces_wanted:
        _state.tracer, _state.sampled = _state.exporting.tracers()


def shutdown(timeout_seconds: float = _SHUTDOWN_SECONDS) -> None:
    """Export what is queued, within the time-out, and stop. Blocks; call it last."""
    exporting, _state.exporting = _state.exporting, None
    _state.tracer = _state.sampled = None
    if exporting is not None:
        exporting.stop(timeout_seconds)


def enabled() -> bool:
    """Tell whether traces are exported."""
    return _state.tracer is not None


def server_tracer() -> Tracer | None:
    """Return the tracer of HTTP servers, None while tracing is off."""
    return _state.tracer


def current_traceparent() -> str | None:
    """Return the traceparent of the request being served, also of one only passed through."""
    context = trace.get_current_span().get_span_context()
    return formatted(context) if context.is_valid else None


def create_span(
    stream: str, event_type: str, event_id: UUID, cause_trace: str | None
) -> str | None:
    """Record that an outbox row was written; return the traceparent to store in it.

    The span is a child of `cause_trace`, else of the current span, else it begins a trace. With
    tracing off, or a cause that is not sampled, the cause's traceparent is passed through: the
    chain is never cut.
    """
    tracer = _state.tracer
    if tracer is None:
        return cause_trace
    parent = parsed(cause_trace)
    if parent is not None:
        if not parent.trace_flags.sampled or _state.sampled is None:
            return cause_trace
        tracer = _state.sampled
    attributes = _attributes(names.CREATE, stream)
    attributes[names.MESSAGE_ID] = str(event_id)
    attributes[names.EVENT_TYPE] = event_type
    span = tracer.start_span(
        f"{names.CREATE} {stream}",
        context=parent_of(parent),
        kind=SpanKind.PRODUCER,
        attributes=attributes,
    )
    span.end()
    return formatted(span.get_span_context())


@contextmanager
def send_span(
    stream: str, links: Iterable[str | None], *, partition: int | None = None, count: int = 0
) -> Iterator[None]:
    """Span of the relay handing rows to Kafka, linked to the sampled ones' creation."""
    span = _linked_span(names.SEND, stream, SpanKind.CLIENT, links)
    if span is None:
        yield
        return
    if partition is not None:
        span.set_attribute(names.PARTITION, str(partition))
    if count:
        span.set_attribute(names.BATCH_COUNT, count)
    with _ending(span):
        yield


@contextmanager
def poll_span(stream: str, links: Iterable[str | None], *, count: int = 0) -> Iterator[None]:
    """Span of records received from Kafka, linked to the sampled ones' creation."""
    span = _linked_span(names.POLL, stream, SpanKind.CLIENT, links)
    if span is None:
        yield
        return
    if count:
        span.set_attribute(names.BATCH_COUNT, count)
    with _ending(span):
        yield


def batch_span(stream: str, group: str, count: int, links: Iterable[str | None]) -> Batch:
    """Return the context manager of one batch transaction: a new root, linked to its messages."""
    return Batch(
        stream, group, count, _linked_span(names.PROCESS, stream, SpanKind.CONSUMER, links)
    )


@contextmanager
def commit_span(stream: str, batch: Batch | None = None) -> Iterator[None]:
    """Span of an offset commit, child of its batch; nothing when the batch is not recorded."""
    if _state.sampled is None or batch is None or batch.span is None:
        yield
        return
    span = _state.sampled.start_span(
        f"{names.COMMIT} {stream}",
        context=parent_of(batch.span.get_span_context()),
        kind=SpanKind.CLIENT,
        attributes=_attributes(names.COMMIT, stream),
    )
    with _ending(span):
        yield


class Batch:
    """A batch transaction and the spans of the events in it.

    The events' spans end with the batch. If it fails, that of a single event ends with the error;
    those of several are dropped, for nothing happened: the events are tried again.
    """

    def __init__(self, stream: str, group: str, count: int, span: Span | None) -> None:
        """Take the batch's span, None if it is not recorded; see `batch_span`."""
        self.span = span
        self._stream = stream
        self._group = group
        self._count = count
        self._events: list[Span] = []
        if span is not None:
            self._describe(span)

    def __enter__(self) -> Self:
        """Begin; the batch span is not made current, or events without a trace would join it."""
        return self

    def process(self, record: Traced, *, root: bool = False) -> str | None:
        """Begin the span of one event's effect; return the traceparent of what it causes.

        Child of the creation context and linked to the batch, if that context is sampled; else the
        record's traceparent comes back. `root` begins a new trace, linked to the record's if it has
        one: for redriven events, timers, and external events that bring no trace.
        """
        if _state.tracer is None or not (root or is_sampled(record.trace)):
            return record.trace
        parent = parsed(record.trace)
        tracer = self._tracer_for(parent, root=root)
        if tracer is None:
            return record.trace
        attributes = _attributes(names.PROCESS, self._stream)
        attributes[names.CONSUMER_GROUP] = self._group
        attributes[names.MESSAGE_ID] = str(record.id)
        attributes[names.EVENT_TYPE] = record.type
        if record.partition is not None and record.offset is not None:
            attributes[names.PARTITION] = str(record.partition)
            attributes[names.KAFKA_OFFSET] = record.offset
        span = tracer.start_span(
            f"{names.PROCESS} {self._stream}",
            context=new_root() if root else parent_of(parent),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(parent)] if root and parent else [],
        )
        self._join(span)
        self._events.append(span)
        return formatted(span.get_span_context())

    def _join(self, event: Span) -> None:
        """Link an event's span to the batch's, which a trace that begins here may be the first in.

        Which events without a trace are recorded is known only when the sampler was asked.
        """
        if self.span is None and event.is_recording():
            self.span = _root(names.PROCESS, self._stream, SpanKind.CONSUMER, ())
            if self.span is not None:
                self._describe(self.span)
        if self.span is not None:
            event.add_link(self.span.get_span_context())

    def _describe(self, span: Span) -> None:
        span.set_attribute(names.CONSUMER_GROUP, self._group)
        span.set_attribute(names.BATCH_COUNT, self._count)

    @staticmethod
    def _tracer_for(parent: SpanContext | None, *, root: bool) -> Tracer | None:
        if parent is None:
            return _state.tracer if root else None
        return _state.sampled if parent.trace_flags.sampled else None

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the batch's span, and the events' unless several failed together."""
        if error is None or self._count == 1:
            for span in self._events:
                _end(span, error)
        if self.span is not None:
            _end(self.span, error)


def _linked_span(
    operation: str, stream: str, kind: SpanKind, links: Iterable[str | None]
) -> Span | None:
    """Begin a new root if any of the links is sampled."""
    if _state.sampled is None:
        return None
    contexts = [parsed(link) for link in links if is_sampled(link)]
    sampled = [Link(context) for context in contexts if context is not None]
    return _root(operation, stream, kind, sampled) if sampled else None


def _root(operation: str, stream: str, kind: SpanKind, links: Sequence[Link]) -> Span | None:
    if _state.sampled is None:
        return None
    return _state.sampled.start_span(
        f"{operation} {stream}",
        context=new_root(),
        kind=kind,
        attributes=_attributes(operation, stream),
        links=links,
    )


def _attributes(operation: str, stream: str) -> Attributes:
    return {
        names.MESSAGING_SYSTEM: "kafka",
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: names.OPERATION_TYPES[operation],
        names.DESTINATION: stream,
    }


@contextmanager
def _ending(span: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _end(span, error)
        raise
    _end(span)


def _end(span: Span, error: BaseException | None = None) -> None:
    if error is not None:
        span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
