"""Runs what a command has to ask of the ops ports, and turns failures into one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import typer

from rapport.cli.addresses import addresses
from rapport.cli.console import err, fail
from rapport.opsclient import OpsClient, RefusedError, UnreachableError
from rapport.settling import ClockError, NotSettledError

T = TypeVar("T")
NOT_FOUND = 404


def ask(context: typer.Context, question: Callable[[OpsClient], Awaitable[T]]) -> T:
    """Run a question on a client for the suite; every expected failure ends with 1."""

    async def run() -> T:
        async with OpsClient(addresses(context).ops) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except NotSettledError as error:
        for line in error.open:
            err.print(line, markup=False, highlight=False)
        fail("not settled")
    except (UnreachableError, RefusedError, ClockError, httpx.HTTPError) as error:
        fail(str(error))


async def find_everywhere(client: OpsClient, path: str) -> dict[str, bytes]:
    """GET a path from every service; return the bodies of those that do not say 404."""

    async def one(service: str) -> bytes | None:
        try:
            return (await client.get(service, path)).content
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    found = await asyncio.gather(*(one(service) for service in client.services))
    return {s: body for s, body in zip(client.services, found, strict=True) if body is not None}
