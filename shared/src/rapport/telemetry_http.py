"""Server spans of the HTTP API: continues an incoming `traceparent`; no personal data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from rapport import telemetry, traceparent
from rapport import telemetry_names as names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERVER_ERROR = 500


class TraceMiddleware:
    """ASGI middleware. The span's name is method and route template, never the path itself.

    Wrap the whole application, `TraceMiddleware(app)`: what `add_middleware` adds lies within
    Starlette's own answer to unknown exceptions, which then has no trace.

    With tracing off, an incoming traceparent is still `telemetry.current_traceparent()`, so that
    events carry it on.
    """

    def __init__(self, app: App) -> None:
        """Wrap an ASGI application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = traceparent.parent_of(traceparent.parsed(_traceparent(scope)))
        tracer = telemetry.server_tracer()
        if tracer is None:
            await self._passed_through(parent, scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = tracer.start_span(
            method,
            context=parent or traceparent.new_root(),
            kind=SpanKind.SERVER,
            attributes={names.HTTP_METHOD: method, names.URL_SCHEME: scope.get("scheme", "http")},
        )
        token = current.attach(trace.set_span_in_context(span))
        try:
            await self._app(scope, receive, _watched(send, span))
        except BaseException as error:
            _fail(span, type(error).__qualname__)
            raise
        finally:
            current.detach(token)
            if route := _route(scope):
                span.update_name(f"{method} {route}")
                span.set_attribute(names.HTTP_ROUTE, route)
            span.end()

    async def _passed_through(
        self, parent: current.Context | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if parent is None:
            await self._app(scope, receive, send)
            return
        token = current.attach(parent)
        try:
            await self._app(scope, receive, send)
        finally:
            current.detach(token)


def _route(scope: Scope) -> str | None:
    """Return the template of the route that served; of a route in a router, with its prefixes."""
    found = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    path: str | None = getattr(found, "path", None)
    return path


def _traceparent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return str(value.decode("latin-1"))
    return None


def _watched(send: Send, span: trace.Span) -> Send:
    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            span.set_attribute(names.HTTP_STATUS, status)
            if status >= _SERVER_ERROR:
                _fail(span, str(status))
        await send(message)

    return watched


def _fail(span: trace.Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))
