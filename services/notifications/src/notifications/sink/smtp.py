"""The SMTP side, on aiosmtpd."""

from __future__ import annotations

import asyncio
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.sink.mailbox import Mailbox, Received

if TYPE_CHECKING:
    from notifications.sink.behaviour import Behaviour, Behaviours, Step

OK = "250 OK"
MAX_BYTES = 10 * 1024 * 1024
_headers = BytesHeaderParser()


class Handler:
    """Keeps what comes in, or behaves as it is told."""

    def __init__(self, mailbox: Mailbox, behaviours: Behaviours) -> None:
        """Take where mails are kept, and how to treat clients."""
        self._mailbox = mailbox
        self._behaviours = behaviours

    async def handle_MAIL(  # noqa: N802  aiosmtpd's name and parameters
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer MAIL FROM."""
        answer = await self.misbehave("mail", server, [])
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or OK

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name and parameters
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        answer = await self.misbehave("rcpt", server, [address])
        if answer is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return answer or OK

    async def handle_DATA(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep the mail once for each recipient, then answer."""
        wish = self._behaviours.take("content", envelope.rcpt_tos)
        if wish is None or wish.keep or (wish.code is None and not wish.cut):
            self._mailbox.add(_received(envelope))
        return (await _follow(wish, server) if wish else None) or OK

    async def misbehave(self, step: Step, server: SMTP, recipients: list[str]) -> str | None:
        """Follow the wish for a step; return the answer that takes the usual one's place."""
        wish = self._behaviours.take(step, recipients)
        return await _follow(wish, server) if wish else None


class Server(SMTP):
    """Lets a wish answer DATA too, which aiosmtpd has no hook for."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  aiosmtpd's name
        """Answer DATA: the wish's code, or the leave to send the content."""
        recipients = self.envelope.rcpt_tos if self.envelope else []
        answer = await self.event_handler.misbehave("data", self, recipients)
        if answer is None:
            await super().smtp_DATA(arg)
        elif self.transport is not None:
            await self.push(answer)


async def _follow(wish: Behaviour, server: SMTP) -> str | None:
    if wish.delay_seconds:
        await asyncio.sleep(wish.delay_seconds)
    if wish.cut:
        transport: Any = server.transport  # uvloop's is none of asyncio's classes
        if transport is not None:
            transport.abort()
        return "421 cut"
    return None if wish.code is None else f"{wish.code} {wish.text}"


def _received(envelope: Envelope) -> list[Received]:
    content = envelope.original_content or b""
    headers = _headers.parsebytes(content)
    subject = str(make_header(decode_header(str(headers.get("Subject", "")))))
    message_id = str(headers.get("Message-ID", "")).strip()
    sender = envelope.mail_from or ""
    return [Received(message_id, sender, to, subject, content) for to in envelope.rcpt_tos]


async def serve(host: str, port: int, handler: Handler) -> asyncio.Server:
    """Listen; the caller closes the server."""
    loop = asyncio.get_running_loop()

    def connect() -> Server:
        return Server(handler, hostname="sink.example", data_size_limit=MAX_BYTES, loop=loop)

    return await loop.create_server(connect, host, port)
