"""Permissions per purpose and channel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from rapport.contracts.contacts import ConsentChanged

if TYPE_CHECKING:
    from uuid import UUID

Purpose = Literal["marketing", "surveys"]
Channel = Literal["email", "sms", "phone", "post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Yes or no of one contact; the wording they saw, and who may use it."""

    purpose: Purpose
    channel: Channel
    granted: bool
    wording_version: str
    recipient: str
    decided_at: datetime

    def changed(self, contact_id: UUID) -> ConsentChanged:
        """Return the event."""
        return ConsentChanged(
            contact_id=contact_id,
            purpose=self.purpose,
            channel=self.channel,
            granted=self.granted,
            wording_version=self.wording_version,
            recipient=self.recipient,
            decided_at=self.decided_at,
        )
