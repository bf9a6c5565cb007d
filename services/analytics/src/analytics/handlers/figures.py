"""The live figures that one call of a handler changes: loaded, changed event by event, saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from analytics.domain.money import Reporting
from analytics.domain.profile import Profile
from analytics.domain.revenue import RevenueChanges
from analytics.domain.segment import Segment, Step, cross, join
from analytics.store import parameters, profiles, segments
from analytics.store.segments import Crossing, Membership
from rapport.contracts.analytics import ProfileUpdated, SegmentEntered, SegmentExited
from rapport.messaging.delivery import Cause
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx


def partition_of(cause: Cause) -> int:
    """Return the stream partition that brought a cause; 0 when it came by no stream."""
    return int(cause.causal_entry.split(":")[1]) if cause.causal_entry else 0


@dataclass(slots=True)
class Figures:
    """Profiles by contact, with what they looked like when loaded; sums per revenue day."""

    tx: Tx
    reporting: Reporting
    segments: list[Segment]
    profiles: dict[UUID, Profile] = field(default_factory=dict)
    revenue: RevenueChanges = field(default_factory=RevenueChanges)
    crossings: list[Crossing] = field(default_factory=list)
    _days: dict[tuple[UUID, date], int] = field(default_factory=dict)
    _members: set[Membership] = field(default_factory=set)

    @classmethod
    async def open(cls, tx: Tx) -> Figures:
        """Read the parameters in force."""
        return cls(tx, *await parameters.find_parameters(tx))

    async def load(
        self, contacts: Iterable[UUID], first: date = date.min, last: date = date.max
    ) -> None:
        """Read the contacts' figures, of days between `first` and `last`; unknown ones are new."""
        wanted = sorted(set(contacts))
        known = await profiles.list_profiles(self.tx, wanted, first, last)
        for contact in wanted:
            self.profiles[contact] = known.get(contact) or Profile(contact)
        for profile in known.values():
            self._days.update({(profile.contact_id, d): n for d, n in profile.days.items()})
            self._members |= {(profile.contact_id, code) for code in profile.segments}

    def tell(self, profile: Profile, cause: Cause) -> None:
        """Publish the purchaser's figures as they are now, and the borders just crossed."""
        self.tx.publish(
            ProfileUpdated(
                contact_id=profile.contact_id,
                kept_purchases=profile.kept_purchases,
                monetary_minor=profile.monetary_minor,
                currency=self.reporting.currency,
                last_purchase_on=profile.last_kept_on,
            ),
            cause=cause,
        )
        self.judge(profile, cause)

    def judge(self, profile: Profile, cause: Cause) -> None:
        """Bring the contact's memberships up to date and publish each crossing."""
        for step in cross(profile, profile.segments, self.segments):
            event_type = SegmentEntered if step.direction == "entered" else SegmentExited
            event = event_type(contact_id=profile.contact_id, segment=step.segment.code)
            self._note(self.tx.publish(event, cause=cause), step, profile.contact_id)

    def unite(self, survivor: Profile, loser: Profile, cause: Cause) -> None:
        """Move the loser's figures and memberships to the survivor; the loser's rows stay."""
        survivor.join(loser)
        for step in join(survivor.segments, loser.segments, self.segments):
            joined = derived_id("joined", cause.cause_id, step.segment.code)
            self._note(joined, step, survivor.contact_id)
        del self.profiles[loser.contact_id]
        self._members = {m for m in self._members if m[0] != loser.contact_id}
        self._days = {k: v for k, v in self._days.items() if k[0] != loser.contact_id}

    def _note(self, event_id: UUID, step: Step, contact: UUID) -> None:
        segment = step.segment
        self.crossings.append(
            Crossing(event_id, segment.code, segment.version, contact, step.direction)
        )

    async def save(self) -> None:
        """Write what changed."""
        if not self.profiles:
            return
        changed = [
            (profile.contact_id, day, purchases)
            for profile in self.profiles.values()
            for day, purchases in profile.days.items()
            if self._days.get((profile.contact_id, day)) != purchases
        ]
        await profiles.put_figures(self.tx, self.profiles.values(), changed, self.revenue)
        members = {(p.contact_id, code) for p in self.profiles.values() for code in p.segments}
        if members != self._members:
            come, gone = sorted(members - self._members), sorted(self._members - members)
            await segments.put_members(self.tx, come, gone)
        if self.crossings:
            await segments.add_crossings(self.tx, self.crossings)
