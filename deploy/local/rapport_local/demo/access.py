"""A running copy as the demo sees it: addresses, databases and processes from its state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from rapport.cli.addresses import ops_urls
from rapport.contracts.registry import SERVICES
from rapport.opsclient import Urls
from rapport_local.memory import memory_mb
from rapport_local.state import State


@dataclass(frozen=True)
class Access:
    """What the state file of a copy leads to."""

    state: State

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
        """Return the resident memory of each process."""
        found = {name: memory_mb(pid) for name, (pid, _) in self.state.processes.items()}
        return {name: round(mb, 1) for name, mb in found.items() if mb}

    async def totals(self) -> dict[str, dict[str, Any]]:
        """Read `GET /v1/totals` of every service."""
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            asked = (client.get(f"{self.api(service)}/v1/totals") for service in SERVICES)
            answers = await asyncio.gather(*asked)
        return {s: _content(a) for s, a in zip(SERVICES, answers, strict=True)}

    async def read(self, url: str, method: str = "GET", **params: str) -> Any:  # noqa: ANN401  JSON
        """Ask one address for JSON."""
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            return _content(await client.request(method, url, params=params))


def _content(answer: httpx.Response) -> Any:  # noqa: ANN401  JSON
    answer.raise_for_status()
    return answer.json()


def flat(totals: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Return nested totals by path: `points.active`."""
    found: dict[str, int] = {}
    for name, value in totals.items():
        path = f"{prefix}{name}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
