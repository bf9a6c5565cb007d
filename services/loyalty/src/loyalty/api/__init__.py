"""The public API: members, redemptions, the programme, totals."""

from fastapi import APIRouter

from loyalty.api import members, programme, redemptions, totals

router = APIRouter(prefix="/v1")
router.include_router(members.router)
router.include_router(redemptions.router)
router.include_router(programme.router)
router.include_router(totals.router)
