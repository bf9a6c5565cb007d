"""`/v1/totals`: what the base tables hold, for reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from contacts.store import totals as store

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/totals", tags=["totals"])


@router.get("")
async def get_totals(request: Request) -> dict[str, int]:
    """Count contacts, purchases, refunds, permissions and facts; money in minor units."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        return await store.count_totals(tx)
