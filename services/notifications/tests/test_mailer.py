"""Hand-over against the real sink: what is sent, tried again, given up, and never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from notifications import mailer
from notifications.mailer import transport
from notifications.mailer.claim import claim
from notifications.mailer.record import record_outcomes
from notifications.mailer.worker import Mailer
from notifications.settings import Settings
from notifications.store import totals
from rapport.database import Database
from services.notifications.tests.sink_client import Sink
from services.notifications.tests.story import NAME, NOW, Story

DEADLINE_SECONDS = 60


@pytest.fixture
async def post(committed: Database, settings: Settings) -> AsyncIterator[Mailer]:
    """A mailer whose steps the test takes itself."""
    made = Mailer(committed, settings)
    yield made
    await made.close()


async def row_of(database: Database) -> dict[str, Any]:
    async with database.read() as tx:
        [row] = await tx.fetch("select * from message")
    return dict(row)


async def attempts_of(database: Database) -> list[str]:
    async with database.read() as tx:
        rows = await tx.fetch("select state from attempt order by message_id, number")
    return [row["state"] for row in rows]


async def execute(database: Database, sql: str, *values: object) -> None:
    await database.transact(lambda tx: tx.execute(sql, *values))


async def a_lease_passes(database: Database) -> None:
    await execute(database, "update attempt set started_at = started_at - interval '121 s'")


async def the_pause_passes(database: Database) -> None:
    await execute(database, "update message set not_before = '-infinity'")


async def pending(database: Database) -> dict[str, int]:
    async with database.read() as tx:
        return await totals.count_pending(tx)


async def until(true: Callable[[], Any]) -> None:
    """Poll until a coroutine returns something true."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await true():  # noqa: ASYNC110  the database tells no event
            await asyncio.sleep(0.02)


async def test_a_queued_message_is_handed_over(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    assert await pending(committed) == {"mails_due": 1, "mails_open": 0}
    assert await post.work() == 1
    row = await row_of(committed)
    assert (row["state"], row["sent_at"]) == ("sent", NOW)
    assert row["gates"][-1] == {"gate": "send", "decision": "pass", "stage": "hand-over"}
    [mail] = sink.to(story.address(1))
    assert mail["message_id"] == f"<{row['id']}@rapport.example>"
    assert await story.outbox(committed) == ["message-queued", "message-sent"]
    assert await pending(committed) == {"mails_due": 0, "mails_open": 0}
    assert await post.work() == 0


async def test_marketing_names_its_consent_and_its_one_click_link(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    consent = story.consent(1)
    await story.commit(committed, story.registered(1), consent, story.anniversary(1, "O1"))
    await post.work()
    assert (await row_of(committed))["consent_event_id"] == consent.id
    content = sink.content(sink.to(story.address(1))[0])
    async with committed.read() as tx:
        token = await tx.fetchval("select token from unsubscribe_token")
    assert f"List-Unsubscribe: <https://rapport.example/v1/unsubscribe/{token}>" in content
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in content


async def test_a_consent_withdrawn_before_the_hand_over_counts(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    await story.commit(committed, story.registered(1), story.consent(1), story.anniversary(1, "O1"))
    await story.commit(committed, story.consent(1, granted=False))
    await post.work()
    row = await row_of(committed)
    assert (row["state"], row["reason"]) == ("suppressed", "consent")
    assert row["gates"][-1] == {
        "gate": "consent",
        "decision": "refuse",
        "reason": "consent",
        "stage": "hand-over",
    }
    assert sink.count()["total"] == 0
    assert await story.outbox(committed) == ["message-queued", "message-suppressed"]


async def test_marketing_of_a_contact_with_parked_events_waits(
    post: Mailer, committed: Database, story: Story
) -> None:
    await story.commit(
        committed,
        story.registered(1),
        story.consent(1),
        story.anniversary(1, "O1"),
        story.purchase(1, "O2"),
    )
    await execute(committed, "update rapport.key set parked = true")
    assert await post.work() == 1
    rows = {row["rule"]: row["state"] for row in await story.messages(committed)}
    assert rows == {"anniversary": "queued", "thank-you": "sent"}
    assert await pending(committed) == {"mails_due": 0, "mails_open": 0}


async def test_a_cap_counts_within_one_batch(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    await execute(
        committed,
        """insert into category (code, version, rules) values ('anniversary', 2, '{
            "message_class": "marketing", "purpose": "marketing",
            "cap": {"count": 1, "days": 30, "overflow": "drop"}}')""",
    )
    await story.commit(
        committed,
        story.registered(1),
        story.consent(1),
        story.anniversary(1, "O1"),
        story.anniversary(1, "O2"),
    )
    await post.work()
    states = sorted((r["state"], r["reason"]) for r in await story.messages(committed))
    assert states == [("sent", None), ("suppressed", "cap")]
    assert sink.count()["total"] == 1


async def test_a_temporary_refusal_is_tried_again_later(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "content", "code": 451, "text": "4.3.0 later", "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    row = await row_of(committed)
    assert (row["state"], row["failures"]) == ("queued", 1)
    assert await pending(committed) == {"mails_due": 1, "mails_open": 0}
    await the_pause_passes(committed)
    await post.work()
    assert (await row_of(committed))["state"] == "sent"
    assert await attempts_of(committed) == ["deferred", "sent"]
    assert sink.count() == {"total": 1, "distinct": 1}


async def test_a_message_is_given_up_at_its_age_limit(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await execute(committed, "update rapport.clock set now = now + interval '48 h 1 s'")
    await post.work()
    row = await row_of(committed)
    assert (row["state"], row["reason"]) == ("suppressed", "expired")
    assert sink.count()["total"] == 0


async def test_a_refused_mail_fails_with_a_reason(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "content", "code": 554, "text": "5.7.1 spam", "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    row = await row_of(committed)
    assert (row["state"], row["reason"]) == ("failed", "refused")
    async with committed.read() as tx:
        attempt = await tx.fetchrow("select code, enhanced_code from attempt")
        assert attempt is not None
        assert tuple(attempt) == (554, "5.7.1")
        assert await tx.fetchval("select count(*) from suppression") == 0
    assert await story.outbox(committed) == ["message-queued", "message-suppressed"]


async def test_a_refused_recipient_is_never_written_to_again(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "rcpt", "code": 550, "to": "customer-1@"})
    await story.commit(
        committed,
        story.registered(1),
        story.registered(2),
        story.purchase(1, "O1"),
        story.purchase(2, "O2"),
    )
    await post.work()
    await story.commit(committed, story.purchase(1, "O3"))
    reasons = sorted((r["state"], r["reason"]) for r in await story.messages(committed))
    assert reasons == [("failed", "hard_bounce"), ("sent", None), ("suppressed", "hard_bounce")]


async def test_a_refused_sender_is_our_fault_and_waits(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "mail", "code": 550, "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    assert (await row_of(committed))["state"] == "queued"


async def test_a_cut_before_the_content_is_tried_again(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "rcpt", "cut": True, "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    await the_pause_passes(committed)
    await post.work()
    assert await attempts_of(committed) == ["deferred", "sent"]
    assert sink.count() == {"total": 1, "distinct": 1}


@pytest.mark.parametrize("keep", [True, False])
async def test_a_cut_after_the_content_is_resolved_by_asking(
    post: Mailer, committed: Database, story: Story, sink: Sink, *, keep: bool
) -> None:
    sink.behave({"step": "content", "cut": True, "keep": keep, "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    assert (await row_of(committed))["state"] == "unknown"
    assert await pending(committed) == {"mails_due": 0, "mails_open": 1}
    assert await post.resolve() == 0  # too early: it may still be on its way
    await a_lease_passes(committed)
    assert await post.resolve() == 1
    await post.work()
    assert (await row_of(committed))["state"] == "sent"
    assert await attempts_of(committed) == (["sent"] if keep else ["lost", "sent"])
    assert sink.count() == {"total": 1, "distinct": 1}
    assert (await story.outbox(committed)).count("message-sent") == 1


async def test_a_provider_that_is_away_is_asked_later(
    committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    deaf = Mailer(committed, settings.model_copy(update={"sink_url": "http://127.0.0.1:9"}))
    sink.behave({"step": "content", "cut": True, "keep": True, "times": 1})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await deaf.work()
    await a_lease_passes(committed)
    assert await deaf.resolve() == 0
    assert await pending(committed) == {"mails_due": 0, "mails_open": 1}
    await deaf.close()


async def test_without_a_provider_transactional_is_sent_once_more_and_marketing_never(
    committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    alone = Mailer(committed, settings.model_copy(update={"sink_url": None}))
    sink.behave({"step": "content", "cut": True, "keep": True})
    await story.commit(
        committed,
        story.registered(1),
        story.registered(2),
        story.consent(2),
        story.purchase(1, "O1"),
        story.anniversary(2, "O2"),
    )
    for _ in range(4):
        await alone.work()
        await a_lease_passes(committed)
        await alone.resolve()
    assert {r["state"] for r in await story.messages(committed)} == {"unknown"}
    assert sorted(await attempts_of(committed)) == ["unresolved"] * 3
    assert [len(sink.to(story.address(n))) for n in (1, 2)] == [2, 1]
    assert sink.count() == {"total": 3, "distinct": 2}  # the same Message-ID
    assert await pending(committed) == {"mails_due": 0, "mails_open": 0}
    await alone.close()


async def test_a_mailer_that_was_frozen_after_its_claim_sends_nothing(
    committed: Database, settings: Settings, post: Mailer, story: Story, sink: Sink
) -> None:
    frozen = Mailer(committed, settings)
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    claimed = await committed.transact(lambda tx: claim(tx, frozen._sender))
    assert len(claimed.mails) == 1
    assert await post.work() == 0
    await a_lease_passes(committed)
    await post.resolve()
    await post.work()
    outcomes = await frozen._transport.send(claimed.mails, transport.monotonic() - 1)
    assert [o.kind for o in outcomes.values()] == ["released"]
    late = await committed.transact(lambda tx: record_outcomes(tx, claimed.mails, outcomes))
    assert late == []
    assert (await row_of(committed))["state"] == "sent"
    assert sink.count() == {"total": 1, "distinct": 1}
    await frozen.close()


async def test_a_mailer_frozen_just_before_the_content_sends_nothing(
    post: Mailer, committed: Database, story: Story, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is asked after the server's leave, in the step that would write the bytes."""
    introduce = transport._Connection._introduce
    real = transport.monotonic

    async def freeze(
        self: transport._Connection, mail: transport.Mail, deadline: float
    ) -> transport.Outcome | None:
        outcome = await introduce(self, mail, deadline)
        monkeypatch.setattr(transport, "monotonic", lambda: real() + 1000)
        return outcome

    monkeypatch.setattr(transport._Connection, "_introduce", freeze)
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    await post.work()
    assert await attempts_of(committed) == ["released"]
    assert (await row_of(committed))["state"] == "queued"
    assert sink.count()["total"] == 0


async def test_a_late_result_changes_nothing(
    post: Mailer, committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    """Frozen after the content: another one found it at the provider; the answer comes too late."""
    frozen = Mailer(committed, settings)
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    claimed = await committed.transact(lambda tx: claim(tx, frozen._sender))
    outcomes = await frozen._transport.send(claimed.mails, claimed.deadline)
    await a_lease_passes(committed)
    assert await post.resolve() == 1
    late = await committed.transact(lambda tx: record_outcomes(tx, claimed.mails, outcomes))
    assert late == []
    assert (await story.outbox(committed)).count("message-sent") == 1
    assert sink.count()["total"] == 1
    await frozen.close()


async def test_two_mailers_at_once_send_each_mail_once(
    committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    small = settings.model_copy(update={"mail_batch_size": 7})
    both = [Mailer(committed, small) for _ in range(2)]
    await story.commit(committed, story.registered(1))
    await story.commit(committed, *(story.purchase(1, f"O{n}") for n in range(60)))

    async def drain(one: Mailer) -> None:
        while (await pending(committed))["mails_due"]:
            await one.work()

    await asyncio.gather(*map(drain, both))
    assert sink.count() == {"total": 60, "distinct": 60}
    assert (await story.outbox(committed)).count("message-sent") == 60
    for one in both:
        await one.close()


async def test_a_mail_that_cannot_be_written_does_not_stop_the_others(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    await story.commit(
        committed,
        story.registered(1, "žofie@shop.example"),
        story.registered(2),
        story.registered(3, "a@b@c<d>.example"),
        *(story.purchase(n, f"O{n}") for n in (1, 2, 3)),
    )
    await post.work()
    reasons = sorted((r["state"], r["reason"] or "") for r in await story.messages(committed))
    assert ("suppressed", "unsendable") in reasons
    assert ("sent", "") in reasons
    assert len(sink.to(story.address(2))) == 1


async def test_while_the_mail_server_is_away_nothing_is_claimed(
    committed: Database, settings: Settings, story: Story
) -> None:
    lost = Mailer(committed, settings.model_copy(update={"smtp_port": 9}))
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    with pytest.raises(ConnectionError):
        await lost.work()
    assert await attempts_of(committed) == []
    await lost.close()


async def test_the_worker_delivers_until_it_is_cancelled(
    committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    service: Any = SimpleNamespace(
        database=committed, settings=settings, leading=SimpleNamespace(listeners=[])
    )
    worker = asyncio.create_task(mailer.run(service))
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))

    async def sent() -> bool:
        return bool((await row_of(committed))["state"] == "sent")

    await until(sent)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert sink.count()["total"] == 1


async def test_a_cancelled_worker_records_what_it_has_sent(
    committed: Database, settings: Settings, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "content", "delay_seconds": 0.3, "times": 1})
    service: Any = SimpleNamespace(
        database=committed, settings=settings, leading=SimpleNamespace(listeners=[])
    )
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    worker = asyncio.create_task(mailer.run(service))

    async def sending() -> bool:
        return bool((await row_of(committed))["state"] != "queued")

    await until(sending)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await attempts_of(committed) in (["sent"], ["released"])


async def test_logs_hold_no_addresses_and_names(
    post: Mailer, committed: Database, story: Story, sink: Sink
) -> None:
    sink.behave({"step": "rcpt", "code": 550, "text": "5.1.1 no customer-1@shop.example here"})
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"))
    with structlog.testing.capture_logs() as lines:
        await post.work()
    assert lines
    assert "customer-1" not in str(lines)
    assert NAME not in str(lines)
    async with committed.read() as tx:
        stored = await tx.fetch("select * from attempt")
    assert "customer-1" not in str([dict(row) for row in stored])
