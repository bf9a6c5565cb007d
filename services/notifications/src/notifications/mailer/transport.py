"""A few SMTP connections that stay open, and what can be known after each step of a hand-over.

SMTP has no fencing: the server accepts when it has read the line that ends DATA. So that a process
that was frozen, and whose messages another one has taken over, does not send when it wakes up, the
deadline is asked once more in the very step that writes those bytes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import aiosmtplib
import structlog
from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from notifications.domain.mail import on_the_wire
from notifications.domain.message import MAIL_DOMAIN

log = structlog.get_logger()

Kind = Literal["sent", "deferred", "rejected", "bounced", "released", "unknown"]
ENHANCED_CODE = re.compile(r"^[245]\.\d{1,3}\.\d{1,3}\b")
START_INPUT, COMPLETED, TEMPORARY, PERMANENT = 354, 250, range(400, 500), range(500, 600)
IDLE_SECONDS = 10.0
SUSPENDED_TOO = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds that go on while this process is frozen or the machine asleep."""
    return time.clock_gettime(SUSPENDED_TOO)


@dataclass(frozen=True, slots=True)
class Mail:
    """Bytes for one recipient, and what their attempt is about."""

    attempt_id: UUID
    message_id: UUID
    contact_id: UUID
    address: str
    failures: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known: `unknown` means that the server may have accepted, or not.

    `released` was certainly not handed over; `bounced` was refused because of its recipient. The
    server's text is left out: it quotes addresses.
    """

    kind: Kind
    code: int | None = None
    enhanced_code: str | None = None


RELEASED = Outcome("released")
UNKNOWN = Outcome("unknown")


class Transport:
    """At most `connections` connections to one server, opened when they are needed."""

    def __init__(self, host: str, port: int, sender: str, connections: int) -> None:
        """Take the server's address and whose mails they are; nothing is opened yet."""
        self._server = (host, port)
        self._sender = sender
        self._connections: list[_Connection | None] = [None] * connections
        self.stopping = False

    async def ready(self) -> bool:
        """Tell whether the server can be reached, opening the first connection for it."""
        try:
            await self._open(0, timeout=5.0)
        except (SMTPException, OSError) as error:
            log.warning("mail_server_unreachable", error_type=type(error).__qualname__)
            return False
        return True

    async def send(self, mails: Sequence[Mail], deadline: float) -> dict[UUID, Outcome]:
        """Hand mails over until `deadline` (of `monotonic`); every one gets an outcome."""
        outcomes: dict[UUID, Outcome] = {mail.attempt_id: RELEASED for mail in mails}
        waiting = iter(mails)
        lanes = min(len(self._connections), len(mails))
        async with asyncio.TaskGroup() as group:
            for lane in range(lanes):
                group.create_task(self._serve(lane, waiting, deadline, outcomes))
        return outcomes

    async def close(self) -> None:
        """Say goodbye to the server."""
        for lane, connection in enumerate(self._connections):
            if connection is not None:
                await connection.quit()
            self._connections[lane] = None

    async def _serve(
        self, lane: int, waiting: Iterator[Mail], deadline: float, outcomes: dict[UUID, Outcome]
    ) -> None:
        for mail in waiting:
            left = deadline - monotonic()
            if left <= 0 or self.stopping:
                return
            try:
                connection = await self._open(lane, timeout=left)
            except (SMTPException, OSError):
                outcomes[mail.attempt_id] = Outcome("deferred")
                continue
            outcomes[mail.attempt_id] = await connection.hand_over(mail, deadline)

    async def _open(self, lane: int, timeout: float) -> _Connection:  # noqa: ASYNC109  SMTP's own
        connection = self._connections[lane]
        if connection is not None and connection.usable():
            return connection
        if connection is not None:
            await connection.quit()
        host, port = self._server
        client = SMTP(hostname=host, port=port, local_hostname=MAIL_DOMAIN, timeout=timeout)
        await client.connect()
        self._connections[lane] = connection = _Connection(client, self._sender)
        return connection


class _Connection:
    """One conversation with the server."""

    def __init__(self, client: SMTP, sender: str) -> None:
        self._client = client
        self._sender = sender
        self._used_at = monotonic()

    def usable(self) -> bool:
        return self._client.is_connected and monotonic() - self._used_at < IDLE_SECONDS

    async def quit(self) -> None:
        try:
            if self._client.is_connected:
                await self._client.quit(timeout=1.0)
        except (SMTPException, OSError):
            pass
        finally:
            self._client.close()

    async def hand_over(self, mail: Mail, deadline: float) -> Outcome:
        outcome = await self._introduce(mail, deadline)
        if outcome is None:
            outcome = await self._deliver(on_the_wire(mail.content), deadline)
        self._used_at = monotonic()
        return outcome

    async def _introduce(self, mail: Mail, deadline: float) -> Outcome | None:
        """Speak up to the server's leave to send the content; None when it gave it."""
        try:
            left = max(0.01, deadline - monotonic())
            await self._client.mail(self._sender, timeout=left)
            await self._client.rcpt(mail.address, timeout=left)
            answer = await self._client.execute_command(b"DATA", timeout=left)
        except SMTPResponseException as refused:
            return await self._refused(refused)
        except ValueError:  # an address that SMTP cannot carry
            await self._start_over()
            return Outcome("rejected")
        except (SMTPException, OSError):
            self._client.close()
            return Outcome("deferred")
        if answer.code == START_INPUT:
            return None
        return await self._refused(aiosmtplib.SMTPDataError(answer.code, answer.message))

    async def _refused(self, refused: SMTPResponseException) -> Outcome:
        outcome = _outcome(refused.code, refused.message)
        if outcome.kind == "unknown":  # no proper answer, but nothing was handed over either
            self._client.close()
            return Outcome("deferred")
        await self._start_over()
        if outcome.kind != "rejected":
            return outcome
        if isinstance(refused, SMTPRecipientRefused):
            return Outcome("bounced", outcome.code, outcome.enhanced_code)
        if isinstance(refused, SMTPSenderRefused):
            # Our own address or set-up is at fault, not the mail: it waits until that is mended.
            return Outcome("deferred", outcome.code, outcome.enhanced_code)
        return outcome

    async def _deliver(self, content: bytes, deadline: float) -> Outcome:
        protocol = self._client.protocol
        if protocol is None:
            return Outcome("deferred")
        left = deadline - monotonic()
        if left <= 0:  # the last moment at which nothing has happened yet
            self._client.close()
            return RELEASED
        try:
            protocol.write(content)
            answer = await protocol.read_response(timeout=left)
        except SMTPResponseException as garbled:
            self._client.close()
            return Outcome("unknown", garbled.code if garbled.code > 0 else None)
        except (SMTPException, OSError):
            self._client.close()
            return UNKNOWN
        outcome = _outcome(answer.code, answer.message)
        if outcome.kind == "unknown":
            self._client.close()
        return outcome

    async def _start_over(self) -> None:
        try:
            await self._client.rset(timeout=1.0)
        except (SMTPException, OSError):
            self._client.close()


def _outcome(code: int, text: str) -> Outcome:
    enhanced = ENHANCED_CODE.match(text)
    kind: Kind = "unknown"
    if code == COMPLETED:
        kind = "sent"
    elif code in TEMPORARY:
        kind = "deferred"
    elif code in PERMANENT:
        kind = "rejected"
    return Outcome(kind, code if code > 0 else None, enhanced.group() if enhanced else None)
