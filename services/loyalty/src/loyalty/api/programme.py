"""The programme's parameters, versioned: a change adds a version, nothing is overwritten."""

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Request, Response
from pydantic import AwareDatetime, BaseModel, Field, field_validator

from loyalty import store
from loyalty.domain.programme import Programme, Shortfall, in_force
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(prefix="/programme", tags=["programme"])


class Parameters(BaseModel):
    """What a version says; `expiry_months` null means that points do not expire.

    `daily_cap` is the most that a member earns on a local day, null for any number.
    """

    zone: str = "Europe/Prague"
    pending_days: Annotated[int, Field(ge=0, le=3650, strict=True)] = 14
    points_per_unit: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 1
    shortfall: Shortfall = "debt"
    expiry_months: Annotated[int | None, Field(ge=1, le=1200, strict=True)] = None
    daily_cap: Annotated[int | None, Field(ge=1, le=10**9, strict=True)] = None
    hold_minutes: Annotated[int, Field(ge=1, le=10_080, strict=True)] = 30

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError) as error:
            msg = f"{zone} is not a zone of the IANA database"
            raise ValueError(msg) from error
        return zone


class NewVersion(Parameters):
    """Parameters from an instant on; without one, from now."""

    valid_from: AwareDatetime | None = None


class Version(Parameters):
    """A version as it stands."""

    version: int
    valid_from: datetime


class ProgrammeView(BaseModel):
    """The version in force now, and all versions in the order in which they come into force."""

    in_force: Version
    versions: list[Version]


@router.get("")
async def read_programme(request: Request, response: Response) -> ProgrammeView:
    """Return the parameters; the ETag names the newest version."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        return await _view(tx, response)


@router.put("")
async def replace_programme(
    new: NewVersion,
    request: Request,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> ProgrammeView:
    """Add a version. A purchase is judged by the version in force when it occurred.

    Needs `If-Match` with the newest version's ETag. A version cannot begin in the past: purchases
    of that time were judged already.
    """
    if if_match is None:
        raise Problem(428, "Precondition required", "If-Match has to name the newest version")
    service: Service = request.app.state.service

    async def body(tx: Tx) -> ProgrammeView:
        known = await store.list_programmes(tx)
        newest = max(known, key=lambda programme: programme.version)
        added = _next(new, newest, tx.now)
        if if_match != _etag(newest) or not await store.add_programme(tx, added):
            raise Problem(412, "Precondition failed", f"the newest version is {newest.version}")
        return await _view(tx, response)

    return await service.database.transact(body)


def _next(new: NewVersion, newest: Programme, now: datetime) -> Programme:
    valid_from = new.valid_from or max(now, newest.valid_from)
    for earliest, reason in ((now, "is in the past"), (newest.valid_from, "precedes a version")):
        if valid_from < earliest:
            raise Problem(
                422,
                "Invalid request",
                f"valid_from {reason}",
                errors=[{"field": "valid_from", "reason": f"{valid_from.isoformat()} {reason}"}],
            )
    parameters = new.model_dump(exclude={"valid_from"})
    return Programme(version=newest.version + 1, valid_from=valid_from, **parameters)


async def _view(tx: Tx, response: Response) -> ProgrammeView:
    programmes = await store.list_programmes(tx)
    newest = max(programmes, key=lambda programme: programme.version)
    response.headers["etag"] = _etag(newest)
    return ProgrammeView(
        in_force=_version(in_force(programmes, tx.now)),
        versions=[_version(programme) for programme in programmes],
    )


def _version(programme: Programme) -> Version:
    return Version.model_validate(programme, from_attributes=True)


def _etag(programme: Programme) -> str:
    return f'"{programme.version}"'
