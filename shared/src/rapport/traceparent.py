"""W3C trace context as text: what outbox rows store and records carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext, TraceFlags

if TYPE_CHECKING:
    from opentelemetry.context import Context

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_FLAGS = slice(53, 55)


def is_sampled(traceparent: str | None) -> bool:
    """Tell whether a traceparent carries the sampled flag."""
    if not traceparent:
        return False
    try:
        return bool(int(traceparent[_FLAGS], 16) & TraceFlags.SAMPLED)
    except ValueError:
        return False


def parsed(traceparent: str | None) -> SpanContext | None:
    """Return the span context that a traceparent names, None if it is absent or malformed."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None or found[1] == "ff":
        return None
    flags = TraceFlags(int(found[4], 16))
    context = SpanContext(int(found[2], 16), int(found[3], 16), is_remote=True, trace_flags=flags)
    return context if context.is_valid else None


def formatted(context: SpanContext) -> str:
    """Return the traceparent that names a span context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parent_of(context: SpanContext | None) -> Context | None:
    """Return an OpenTelemetry context whose current span is the given one."""
    return trace.set_span_in_context(NonRecordingSpan(context)) if context else None


def new_root() -> Context:
    """Return an OpenTelemetry context that ignores whatever span is current."""
    return trace.set_span_in_context(NonRecordingSpan(INVALID_SPAN_CONTEXT))
