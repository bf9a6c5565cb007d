"""The two HTTP servers of a service: the public API, and the ops endpoints on their own port."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
import uvicorn
from fastapi import FastAPI

from rapport import problem
from rapport.ops import router as ops_router
from rapport.telemetry_http import TraceMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rapport.service import Service

log = structlog.get_logger()

GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """A server whose signals are the process's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield


class Serving:
    """Builds the applications and runs their servers in the process's loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        if settings.bind not in {"127.0.0.1", "::1", "localhost"}:
            log.warning("listening_beyond_loopback", bind=settings.bind, authentication="none")
        name = service.definition.name
        self.public = build_app(f"Rapport {name}", service)
        self.public.include_router(service.definition.router)
        self.ops = build_app(f"Rapport {name} operations", service)
        self.ops.include_router(ops_router)

    async def run(self, *, public: bool = True) -> None:
        """Serve until cancelled."""
        settings = self.service.settings
        servers = [(self.ops, settings.ops_port)]
        if public:
            servers.append((self.public, settings.port))
        running = [
            Server(
                uvicorn.Config(
                    TraceMiddleware(app),
                    host=settings.bind,
                    port=port,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    timeout_graceful_shutdown=GRACE_SECONDS,
                )
            )
            for app, port in servers
        ]
        tasks = [asyncio.create_task(server.serve()) for server in running]
        try:
            await asyncio.gather(*(asyncio.shield(task) for task in tasks))
        finally:
            for server in running:
                server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)


def build_app(title: str, service: Service) -> FastAPI:
    """Return an application with the house's error answers."""
    app = FastAPI(title=title, version="1", docs_url="/docs", redoc_url=None)
    app.state.service = service
    problem.install(app)
    return app
