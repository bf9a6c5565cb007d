"""Categories: parameters of the gates, versioned data that is changed here, not by a redeploy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from notifications.domain.category import Category, Rules
from notifications.store import category
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(tags=["categories"])


class CategoryList(BaseModel):
    """The version in force of every category."""

    items: list[Category]


@router.get("/categories")
async def list_categories(request: Request) -> CategoryList:
    """List the categories in force."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        known = await category.list_categories(tx)
    return CategoryList(items=list(known.values()))


@router.get("/categories/{code}")
async def read_category(request: Request, response: Response, code: str) -> Category:
    """Read the version in force; its ETag is what a change names in If-Match."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        found = await _find(tx, code)
    response.headers["ETag"] = _etag(found.version)
    return found


@router.put("/categories/{code}")
async def change_category(
    request: Request,
    response: Response,
    code: str,
    rules: Rules,
    if_match: Annotated[str | None, Header()] = None,
) -> Category:
    """Put a new version in force, from the next decision and hand-over on."""
    if if_match is None:
        raise Problem(
            428,
            "If-Match is missing",
            "Read the category and send its ETag in If-Match.",
            errors=[{"field": "If-Match", "reason": "missing"}],
        )
    service: Service = request.app.state.service

    async def change(tx: Tx) -> Category:
        found = await _find(tx, code)
        version = found.version + 1
        fits = if_match in (_etag(found.version), "*")
        if not fits or not await category.add_category_version(tx, code, version, rules):
            raise Problem(
                412,
                "The category has changed",
                f"The version of {code} in force is {found.version}.",
                errors=[{"field": "If-Match", "reason": "another version is in force"}],
            )
        return Category(code=code, version=version, rules=rules)

    changed = await service.database.transact(change)
    response.headers["ETag"] = _etag(changed.version)
    return changed


async def _find(tx: Tx, code: str) -> Category:
    found = await category.list_categories(tx, [code])
    if code not in found:
        raise Problem(404, "No such category", f"There is no category {code!r}.")
    return found[code]


def _etag(version: int) -> str:
    return f'"{version}"'
