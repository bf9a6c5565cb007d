"""Other names of merged contacts: every service follows `contact-merged`, whatever it handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rapport.contracts.contacts import ContactMerged
from rapport.messaging.failure import DecodingError
from rapport.messaging.transaction import StartAgainError

if TYPE_CHECKING:
    from uuid import UUID

    from rapport.messaging.envelope import Envelope
    from rapport.messaging.transaction import Tx

MERGED = ContactMerged.type

FOLLOWERS = "select id from rapport.key where survivor = $1"
JOIN = "update rapport.key set survivor = $2 where id = $1 or survivor = $1"

_decoder = msgspec.json.Decoder(ContactMerged)


async def follow(envelope: Envelope, tx: Tx) -> None:
    """Do what a `contact-merged` says of names.

    It comes to both keys; only the loser's record, which comes first, sets the alias. Behind the
    survivor's lie both pasts: handlers move their state there. Raises DecodingError for a bad
    body, and StartAgainError when further keys have to be locked.
    """
    try:
        merged = _decoder.decode(envelope.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"{MERGED}: {error}"
        raise DecodingError(msg) from error
    if envelope.key == merged.loser_id:
        await join(tx, merged.loser_id, merged.survivor_id)


async def join(tx: Tx, loser: UUID, survivor: UUID) -> None:
    """Make the loser, and all that had been merged into it, another name of the survivor.

    Both keys are locked. Joining them again, or a survivor that by now is another name of the
    loser, changes nothing. Raises StartAgainError when names of the loser are not locked yet.
    """
    canonical = tx.locked[survivor]
    if canonical == tx.locked[loser]:
        return
    names = {row["id"] for row in await tx.fetch(FOLLOWERS, loser)}
    if further := names - tx.locked.keys():
        raise StartAgainError(further)
    await tx.execute(JOIN, loser, canonical)
    tx.locked.update(dict.fromkeys((loser, *names), canonical))
