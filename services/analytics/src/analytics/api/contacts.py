"""`GET /v1/contacts/{id}/profile`."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from analytics.api.access import RunningService
from analytics.api.freshness import Freshness, freshness_of
from analytics.store import parameters, profiles
from rapport.problem import Problem

router = APIRouter()


class ProfileAnswer(BaseModel):
    """A contact's figures; `contact_id` is the survivor's when the asked one was merged."""

    contact_id: UUID
    kept_purchases: int
    purchase_days: int
    monetary_minor: int
    currency: str
    first_kept_on: date | None
    last_kept_on: date | None
    segments: list[str]
    definition: str = (
        "Purchases of which anything is left after refunds, the days on which they were made, and"
        " their money net of refunds, tax and shipping."
    )
    freshness: Freshness


@router.get("/contacts/{contact_id}/profile")
async def get_profile(contact_id: UUID, service: RunningService) -> ProfileAnswer:
    """Return a contact's purchase figures."""
    async with service.database.read() as tx:
        canonical = await profiles.find_survivor(tx, contact_id) or contact_id
        profile = (await profiles.list_profiles(tx, [canonical])).get(canonical)
        reporting = await parameters.find_reporting(tx)
        fresh = await freshness_of(tx)
    if profile is None:
        reason = {"field": "contact_id", "reason": "unknown here"}
        raise Problem(404, "No such contact", errors=[reason])
    return ProfileAnswer(
        contact_id=canonical,
        kept_purchases=profile.kept_purchases,
        purchase_days=profile.purchase_days,
        monetary_minor=profile.monetary_minor,
        currency=reporting.currency,
        first_kept_on=profile.first_kept_on,
        last_kept_on=profile.last_kept_on,
        segments=sorted(profile.segments),
        freshness=fresh,
    )
