"""Both sides of the sink in one process and one event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from notifications.sink import http, smtp
from notifications.sink.behaviour import Behaviours
from notifications.sink.mailbox import Mailbox

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sink listens, and where it keeps its mails."""

    host: str
    smtp_port: int
    http_port: int
    directory: Path


async def run(place: Place) -> None:
    """Serve until SIGINT or SIGTERM."""
    mailbox, behaviours = Mailbox(place.directory), Behaviours()
    server = await smtp.serve(place.host, place.smtp_port, smtp.Handler(mailbox, behaviours))
    config = uvicorn.Config(
        http.build(mailbox, behaviours),
        host=place.host,
        port=place.http_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        server.close()
        mailbox.close()
