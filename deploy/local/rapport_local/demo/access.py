"""A running copy as the demo sees it: addresses, databases and processes from its state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from rapport.cli.addresses import ops_urls
from rapport.contracts.registry import SERVICES
from rapport.opsclient import Urls
from rapport_local.errors import LocalRuntimeError
from rapport_local.memory import memory_mb
from rapport_local.state import State

TIMEOUT_SECONDS = 120
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Access:
    """What the state file of a copy leads to; `memory` tells the memory of what is no process."""

    state: State
    memory: Callable[[], dict[str, float]] | None = None

    @property
    def ops(self) -> Urls:
        """The ops ports of every service, of all replicas."""
        return ops_urls(self.state.urls)

    @property
    def kafka(self) -> str:
        """Kafka's address."""
        return self.state.kafka

    def api(self, service: str) -> str:
        """Return the public API of a service."""
        return self.state.urls[service]

    @property
    def sink(self) -> str:
        """The mail sink's HTTP view."""
        return self.state.urls["sink"]

    def dsn(self, service: str) -> str:
        """Return a service's database."""
        return self.state.databases[service]

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of each process, or container."""
        if self.memory:
            return self.memory()
        found = {name: memory_mb(pid) for name, (pid, _) in self.state.processes.items()}
        return {name: round(mb, 1) for name, mb in found.items() if mb}

    async def totals(self) -> dict[str, dict[str, Any]]:
        """Read `GET /v1/totals` of every service."""
        asked = (self.ask(f"{self.api(service)}/v1/totals") for service in SERVICES)
        return dict(zip(SERVICES, await asyncio.gather(*asked), strict=True))

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Any:  # noqa: ANN401  JSON
        """Ask one address for JSON; again for a while when it is being started again.

        Raises LocalRuntimeError.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                try:
                    answer = await client.request(method, url, **options)
                except httpx.TransportError as error:
                    reason, lasting = str(error) or type(error).__name__, False
                else:
                    if answer.is_success:
                        return answer.json()
                    reason = f"HTTP {answer.status_code}: {answer.text[:300]}"
                    lasting = answer.is_client_error
                if lasting or time.monotonic() > until:
                    raise LocalRuntimeError(f"{url}: {reason}")
                await asyncio.sleep(PAUSE_SECONDS)


def flat(totals: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Return nested totals by path: `points.active`."""
    found: dict[str, int] = {}
    for name, value in totals.items():
        path = f"{prefix}{name}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
