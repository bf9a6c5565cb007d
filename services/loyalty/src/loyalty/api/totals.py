"""Totals from the base tables, for reconciliation."""

from typing import Any

from fastapi import APIRouter, Request

from loyalty import store
from rapport.service import Service

router = APIRouter(tags=["totals"])


@router.get("/totals")
async def read_totals(request: Request) -> dict[str, Any]:
    """Count members, points, lots, journals and refunds; nothing comes from a cache."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        return await store.count_totals(tx)
