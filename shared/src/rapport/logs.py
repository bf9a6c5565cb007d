"""JSON logs, one object a line, with trace, event and contact ids, without personal data."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import structlog
from opentelemetry import trace

from rapport import redaction
from rapport.traceparent import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from uuid import UUID

    from opentelemetry.trace import SpanContext
    from structlog.typing import EventDict, Processor, WrappedLogger

ROUTED = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"),
    *("faststream", "faststream.access", "faststream.access.kafka"),
    *("aiokafka", "asyncio", "asyncpg", "opentelemetry"),
)
"""Loggers of libraries: their own handlers are taken away, their records go to the root's."""

QUIET = ("aiokafka", "faststream.access", "faststream.access.kafka", "httpx", "httpcore")
"""Loggers with lines for every message or request; only their warnings are written."""


_OWN_FIELDS = frozenset({"timestamp", "level", "logger", "service", "trace_id", "span_id"})
_ACCESS_ARGUMENTS = 5


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream` (default: standard output).

    Call it before uvicorn and FastStream start, with `log_config=None` for uvicorn; call `adopt`
    for a logger that a library makes later.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        pass_foreign_args=True,
        foreign_pre_chain=[*shared, split_access],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_service(service),
            structlog.processors.JSONRenderer(serializer=_json),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    adopt(*ROUTED)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def adopt(*loggers: str) -> None:
    """Take away the handlers of loggers that a library has set up; the root's serve them."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.disabled = False


@contextmanager
def bound(
    *, event_id: UUID | None = None, contact_id: UUID | None = None, traceparent: str | None = None
) -> Iterator[None]:
    """Give every line logged inside the ids of what is being worked on."""
    fields = {"event_id": event_id, "contact_id": contact_id}
    given = {key: str(value) for key, value in fields.items() if value is not None}
    if context := parsed(traceparent):
        _give_trace(given, context)
    with structlog.contextvars.bound_contextvars(**given):
        yield


def add_trace(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Add ids of the current span, unless `bound` gave those of an event."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in line:
        _give_trace(line, context)
    return line


def _give_trace(line: MutableMapping[str, Any], context: SpanContext) -> None:
    line["trace_id"] = f"{context.trace_id:032x}"
    line["span_id"] = f"{context.span_id:016x}"


def split_access(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Give uvicorn's access records fields, without the client's address and the query."""
    line.pop("color_message", None)  # uvicorn says it twice
    arguments = line.pop("positional_args", None)
    record = line.get("_record")
    if not isinstance(record, logging.LogRecord) or record.name != "uvicorn.access":
        return line
    if isinstance(arguments, tuple) and len(arguments) == _ACCESS_ARGUMENTS:
        _client, method, path, _version, status = arguments
        line["event"] = "request_served"
        line.update(method=method, path=str(path).partition("?")[0], status=status)
    return line


def redact(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Drop personal keys and mask what looks personal in every other value."""
    return {
        key: value if key in _OWN_FIELDS else redaction.cleaned(value)
        for key, value in line.items()
        if not redaction.is_personal(key)
    }


def _add_service(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["service"] = service
        return line

    return add


def _json(line: object, **_options: object) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()
