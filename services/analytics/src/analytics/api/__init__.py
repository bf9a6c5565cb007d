"""HTTP API of the analytics service, under `/v1`."""

from __future__ import annotations

from fastapi import APIRouter

from analytics.api import contacts, metrics, operations, segments

router = APIRouter(prefix="/v1")
router.include_router(metrics.router)
router.include_router(contacts.router)
router.include_router(segments.router)
router.include_router(operations.router)
