"""Asks the provider which messages it has accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import structlog

from notifications.domain.message import internet_message_id

log = structlog.get_logger()

AT_ONCE = 25
TIMEOUT_SECONDS = 2.0
CONFIRM_SECONDS = 1.0


class ProviderAwayError(Exception):
    """The provider did not answer; ask again later."""


class Provider:
    """A provider's record of accepted mails, by `Message-ID`."""

    def __init__(self, url: str, confirm_seconds: float = CONFIRM_SECONDS) -> None:
        """Take the provider's address, and how long to wait before the second question."""
        self._url = f"{url.rstrip('/')}/messages"
        self._confirm_seconds = confirm_seconds
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)

    async def find_accepted(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """Return those that the provider has; raises ProviderAwayError.

        What it does not have is asked for twice: a provider that just came back may answer before
        it has read what waited in its connections.
        """
        found = await self._ask(message_ids)
        missing = [each for each in message_ids if each not in found]
        if missing:
            await asyncio.sleep(self._confirm_seconds)
            found |= await self._ask(missing)
        return found

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _ask(self, message_ids: Sequence[UUID]) -> set[UUID]:
        names = {internet_message_id(each): each for each in message_ids}
        found: set[UUID] = set()
        asked = list(names)
        for start in range(0, len(asked), AT_ONCE):
            answer = await self._fetch(asked[start : start + AT_ONCE])
            found.update(names[item["message_id"]] for item in answer["items"])
        return found

    async def _fetch(self, names: Sequence[str]) -> Any:  # noqa: ANN401  JSON
        try:
            answer = await self._client.get(self._url, params={"message_id": list(names)})
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            log.warning("mail_provider_unreachable", error_type=type(error).__qualname__)
            raise ProviderAwayError from error
