"""Recipients, their consents, and addresses that nothing may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from notifications.domain.decision import Recipient
from notifications.domain.gates import Facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from notifications.domain.category import Category
    from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Address:
    """What notifications keeps of a contact; personal data, never in logs or events."""

    contact_id: UUID
    address: str | None
    given_name: str | None
    language: str | None
    zone: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Consent:
    """A permission as the event `event_id` left it."""

    contact_id: UUID
    purpose: str
    channel: str
    granted: bool
    event_id: UUID
    wording_version: str
    changed_at: datetime


async def add_recipients(tx: Tx, recipients: Sequence[Address]) -> None:
    """Write recipients, at most one row a contact; a version not newer than the row's is old."""
    await tx.execute(
        """
        insert into recipient
            (contact_id, address, address_hash, given_name, language, zone, version)
        select contact_id, address, sha256(convert_to(lower(address), 'UTF8')), given_name,
            language, zone, version
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
            as r(contact_id, address, given_name, language, zone, version)
        order by contact_id
        on conflict (contact_id) do update set
            address = excluded.address, address_hash = excluded.address_hash,
            given_name = excluded.given_name, language = excluded.language,
            zone = excluded.zone, version = excluded.version
        where recipient.version < excluded.version
        """,
        [r.contact_id for r in recipients],
        [r.address for r in recipients],
        [r.given_name for r in recipients],
        [r.language for r in recipients],
        [r.zone for r in recipients],
        [r.version for r in recipients],
    )


async def add_consents(tx: Tx, consents: Sequence[Consent]) -> None:
    """Write consents, at most one row per contact, purpose and channel; the last written holds."""
    await tx.execute(
        """
        insert into consent
            (contact_id, purpose, channel, granted, event_id, wording_version, changed_at)
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::uuid[],
            $6::text[], $7::timestamptz[])
        order by 1, 2, 3
        on conflict (contact_id, purpose, channel) do update set
            granted = excluded.granted, event_id = excluded.event_id,
            wording_version = excluded.wording_version, changed_at = excluded.changed_at
        """,
        [c.contact_id for c in consents],
        [c.purpose for c in consents],
        [c.channel for c in consents],
        [c.granted for c in consents],
        [c.event_id for c in consents],
        [c.wording_version for c in consents],
        [c.changed_at for c in consents],
    )


async def find_recipients(
    tx: Tx, contact_ids: Sequence[UUID], kind: Category, channel: str
) -> dict[UUID, Recipient]:
    """Return what the gates need, by contact; unknown contacts are left out."""
    rows = await tx.fetch(
        """
        select r.contact_id, r.address is not null as has_address, s.reason as suppressed,
            coalesce(c.granted, false) as granted, c.event_id, p.wanted, r.zone, r.given_name,
            r.language
        from recipient r
            left join suppression s on s.address_hash = r.address_hash
            left join consent c
                on c.contact_id = r.contact_id and c.purpose = $2 and c.channel = $3
            left join preference p
                on p.contact_id = r.contact_id and p.category = $4 and p.channel = $3
        where r.contact_id = any($1::uuid[])
        """,
        contact_ids,
        kind.rules.purpose,
        channel,
        kind.code,
    )
    found = {}
    for row in rows:
        contact_id, has_address, suppressed, granted, event_id, wanted, zone, name, language = row
        facts = Facts(has_address, suppressed, granted, event_id, wanted, zone=zone)
        found[contact_id] = Recipient(facts, name, language)
    return found


async def add_suppressions(
    tx: Tx, addresses: Sequence[str], message_ids: Sequence[UUID], reason: str
) -> None:
    """Bar addresses from every class of message; one that is barred keeps its first reason."""
    await tx.execute(
        """
        insert into suppression (address_hash, reason, message_id, suppressed_at)
        select distinct on (1) sha256(convert_to(lower(address), 'UTF8')), $3::text, message_id,
            $4::timestamptz
        from unnest($1::text[], $2::uuid[]) as a(address, message_id)
        order by 1, message_id
        on conflict do nothing
        """,
        addresses,
        message_ids,
        reason,
        tx.now,
    )


async def join_recipients(tx: Tx, losers: Sequence[UUID], survivors: Sequence[UUID]) -> None:
    """Drop the losers' rows; a survivor without one takes over the loser's."""
    await tx.execute(
        """
        with gone as (
            delete from recipient using unnest($1::uuid[], $2::uuid[]) as m(loser, survivor)
            where contact_id = m.loser returning recipient.*, m.survivor
        )
        insert into recipient
            (contact_id, address, address_hash, given_name, language, zone, version)
        select distinct on (survivor)
            survivor, address, address_hash, given_name, language, zone, 0
        from gone order by survivor, contact_id
        on conflict (contact_id) do nothing
        """,
        losers,
        survivors,
    )


async def join_consents(tx: Tx, losers: Sequence[UUID], survivors: Sequence[UUID]) -> None:
    """Move the losers' consents; where both have one, a no beats a yes."""
    await tx.execute(
        """
        with gone as (
            delete from consent using unnest($1::uuid[], $2::uuid[]) as m(loser, survivor)
            where contact_id = m.loser returning consent.*, m.survivor
        )
        insert into consent
            (contact_id, purpose, channel, granted, event_id, wording_version, changed_at)
        select distinct on (survivor, purpose, channel)
            survivor, purpose, channel, granted, event_id, wording_version, changed_at
        from gone order by survivor, purpose, channel, granted, contact_id
        on conflict (contact_id, purpose, channel) do update set
            granted = excluded.granted, event_id = excluded.event_id,
            wording_version = excluded.wording_version
        where consent.granted and not excluded.granted
        """,
        losers,
        survivors,
    )
