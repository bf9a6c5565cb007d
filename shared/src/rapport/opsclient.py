"""Asks the ops ports of a running suite: one keep-alive client, all services at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from rapport.contracts.registry import SERVICES

Urls = Mapping[str, str | Sequence[str]]
"""Address of each service's ops port; of several replicas when a list is given."""

OPS_PORTS = {service: 9001 + index for index, service in enumerate(SERVICES)}
DEFAULT_URLS: Urls = {service: f"http://127.0.0.1:{port}" for service, port in OPS_PORTS.items()}
TIMEOUT_SECONDS = 10.0
HTTP_ERROR = 400
SERVER_ERROR = 500
JSON = {"content-type": "application/json"}


class UnreachableError(Exception):
    """No replica of a service answers on its ops port."""

    def __init__(self, service: str, reason: str) -> None:
        """Say which service, and what the last address answered."""
        super().__init__(f"{service} does not answer on its ops port: {reason}")
        self.service = service


class RefusedError(Exception):
    """A service answered with an error; `status` is the HTTP status, the text says why.

    From 500 on it may pass: the service, its database or Kafka is being started again.
    """

    def __init__(self, service: str, response: httpx.Response) -> None:
        """Take the reason from the problem details."""
        super().__init__(f"{service}: {_reason(response)}")
        self.service = service
        self.status = response.status_code

    @property
    def may_pass(self) -> bool:
        """Tell whether asking again makes sense."""
        return self.status >= SERVER_ERROR


def _reason(response: httpx.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return f"HTTP {response.status_code}"
    if not isinstance(problem, dict):
        return f"HTTP {response.status_code}"
    text = problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"
    fields = [f"{e.get('field')}: {e.get('reason')}" for e in problem.get("errors") or ()]
    return "; ".join([str(text), *fields])


class OpsClient:
    """Speaks to the ops ports of all services.

    Where a service has several addresses they are tried in turn, beginning with the one that
    answered last. Use it as an asynchronous context manager.
    """

    def __init__(self, urls: Urls = DEFAULT_URLS, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Remember the addresses; connections are opened when needed."""
        self.urls = {name: _listed(value) for name, value in urls.items()}
        # Loading certificates takes longer than most answers, and ops ports are plain HTTP.
        verify = any(url.startswith("https:") for urls in self.urls.values() for url in urls)
        self._http = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False, verify=verify)

    @property
    def services(self) -> tuple[str, ...]:
        """The services that have an address."""
        return tuple(self.urls)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def get(self, service: str, path: str, **params: str) -> httpx.Response:
        """GET from a service; raises UnreachableError and RefusedError."""
        return await self._ask(service, "GET", path, params=params)

    async def post(self, service: str, path: str, body: object = None) -> httpx.Response:
        """POST JSON to a service; raises UnreachableError and RefusedError."""
        content = msgspec.json.encode(body)
        return await self._ask(service, "POST", path, content=content, headers=JSON)

    async def get_all(self, path: str, **params: str) -> dict[str, Any]:
        """GET the same from every service at once; return each one's decoded JSON."""
        answers = await asyncio.gather(*(self.get(name, path, **params) for name in self.urls))
        decoded = (msgspec.json.decode(answer.content) for answer in answers)
        return dict(zip(self.urls, decoded, strict=True))

    async def post_all(self, path: str, body: object) -> None:
        """POST the same to every service at once."""
        await asyncio.gather(*(self.post(name, path, body) for name in self.urls))

    async def _ask(self, service: str, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  httpx's own
        addresses = self.urls.get(service)
        if not addresses:
            raise UnreachableError(service, "no address is known")
        reason = ""
        for address in list(addresses):
            try:
                response = await self._http.request(method, address + path, **options)
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
                addresses.append(addresses.pop(0))
                continue
            if response.status_code >= HTTP_ERROR:
                raise RefusedError(service, response)
            return response
        raise UnreachableError(service, reason)


def _listed(value: str | Sequence[str]) -> list[str]:
    addresses = [value] if isinstance(value, str) else list(value)
    return [address.rstrip("/") for address in addresses]


@asynccontextmanager
async def opened(suite: Urls | OpsClient) -> AsyncIterator[OpsClient]:
    """Give a client for the addresses, closed at the end; a client is given as it is."""
    if isinstance(suite, OpsClient):
        yield suite
        return
    async with OpsClient(suite) as client:
        yield client
