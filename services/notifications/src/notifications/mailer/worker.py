"""The mailer's loop: claim, hand over, record; and resolve what nobody knows the end of."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from notifications.mailer.claim import Claim, Sender, claim
from notifications.mailer.provider import Provider, ProviderAwayError
from notifications.mailer.record import record_answers, record_outcomes
from notifications.mailer.transport import Transport, monotonic
from notifications.settings import Settings
from notifications.store import attempt

if TYPE_CHECKING:
    from rapport.database import Database
    from rapport.service import Service

log = structlog.get_logger()

IDLE_SECONDS = 0.25
RESOLVE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 5.0
STOP_SECONDS = 3.0
RESOLVE_LIMIT = 500


async def run(service: Service) -> None:
    """Work until cancelled; the leader's worker."""
    settings = service.settings
    if not isinstance(settings, Settings):
        raise TypeError("the mailer needs the settings of notifications")
    mailer = Mailer(service.database, settings)
    service.leading.listeners.append(mailer.woken)
    try:
        await mailer.run()
    finally:
        service.leading.listeners.remove(mailer.woken)
        await mailer.close()


class Mailer:
    """Hands messages over. Several may run at once, wanted or not: every step holds for that.

    An attempt is this process's for half a lease. After a whole one, anybody may ask the provider
    what became of it.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        """Take what it works with; nothing is opened yet. `woken` is set after local commits."""
        self.woken = asyncio.Event()
        self._database = database
        self._sender = Sender(
            holder=uuid4(),
            address=settings.mail_from,
            public_url=settings.public_url.rstrip("/"),
            window_seconds=settings.lease_seconds / 2,
            batch_size=settings.mail_batch_size,
        )
        self._transport = Transport(
            settings.smtp_host, settings.smtp_port, settings.mail_from, settings.smtp_connections
        )
        self._provider = Provider(settings.sink_url) if settings.sink_url else None
        self._lease_seconds = settings.lease_seconds

    async def run(self) -> None:
        """Look after each commit here, and a few times a second, until cancelled."""
        resolved_at = float("-inf")
        failures = 0
        while True:
            pause = IDLE_SECONDS
            self.woken.clear()
            try:
                if monotonic() - resolved_at >= RESOLVE_SECONDS:
                    await self.resolve()
                    resolved_at = monotonic()
                if await self.work():
                    pause = 0.0
                failures = 0
            except Exception as error:  # noqa: BLE001  whatever it was, mail goes on
                failures += 1
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2.0**failures)
                log.warning(
                    "mailer_failed",
                    error_type=type(error).__qualname__,
                    sqlstate=getattr(error, "sqlstate", None),
                    retry_seconds=pause,
                )
            try:
                async with asyncio.timeout(pause):
                    await self.woken.wait()
            except TimeoutError:
                pass

    async def work(self) -> int:
        """Hand over one batch of what is due; return how many messages were looked at."""
        async with self._database.read() as tx:
            if not await attempt.list_due(tx, 1):
                return 0
        if not await self._transport.ready():
            raise ConnectionError("the mail server cannot be reached")
        claimed = await self._database.transact(lambda tx: claim(tx, self._sender))
        if claimed.mails:
            await self._finish(self._hand_over(claimed))
        return claimed.seen

    async def resolve(self) -> int:
        """Find out about attempts that are older than a lease; return how many were ended."""
        async with self._database.read() as tx:
            open_ = await attempt.list_open_attempts(tx, self._lease_seconds, RESOLVE_LIMIT)
        if not open_:
            return 0
        accepted = None
        if self._provider:
            try:
                accepted = await self._provider.find_accepted([each.message_id for each in open_])
            except ProviderAwayError:
                return 0
        recorded = await self._database.transact(lambda tx: record_answers(tx, open_, accepted))
        log.info("attempts_resolved", **Counter(str(each.state) for each in recorded))
        return len(recorded)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()
        if self._provider:
            await self._provider.close()

    async def _hand_over(self, claimed: Claim) -> None:
        outcomes = await self._transport.send(claimed.mails, claimed.deadline)
        recorded = await self._database.transact(
            lambda tx: record_outcomes(tx, claimed.mails, outcomes)
        )
        log.info("mails_handed_over", **Counter(str(outcome.kind) for outcome in outcomes.values()))
        if len(recorded) < len(claimed.mails):
            log.warning("attempts_taken_over", count=len(claimed.mails) - len(recorded))

    async def _finish(self, hand_over: Coroutine[None, None, None]) -> None:
        """See a batch through: when cancelled, begin no further mail but record what was sent."""
        task = asyncio.ensure_future(hand_over)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._transport.stopping = True
            await asyncio.wait([task], timeout=STOP_SECONDS)
            task.cancel()
            raise
