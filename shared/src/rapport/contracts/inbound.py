"""External events: what other systems publish to `inbound.events.v1` or `POST /v1/events`.

Types are the CloudEvents `type` values; each class is the shape of `data`. Unknown fields are
ignored, wrong ones are refused with the field's name. `customer` is the sender's own number.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Number = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]
MAX_MINOR = 10**15


class ExternalEvent(BaseModel):
    """Data of an external event about one customer of the sender."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: ClassVar[str]
    customer: Number


class ContactDetails(ExternalEvent):
    """Fields that a registration or an update may carry; absent means unchanged."""

    given_name: Name | None = None
    family_name: Name | None = None
    email: Email | None = None
    phone: Annotated[str, StringConstraints(max_length=40)] | None = None
    birth_date: date | None = None
    language: Annotated[str, StringConstraints(max_length=35)] | None = None
    zone: Annotated[str, StringConstraints(max_length=64)] | None = None


class ContactRegistered(ContactDetails):
    """A customer signed up, with consents given on the same form."""

    type: ClassVar = "contact.registered"
    consents: tuple[ConsentOnForm, ...] = ()


class ConsentOnForm(BaseModel):
    """A permission given together with the registration."""

    purpose: Literal["marketing", "surveys"]
    channel: Literal["email", "sms", "phone", "post"] = "email"
    wording_version: Name = "1"
    recipient: Name = "Rapport"


class ContactUpdated(ContactDetails):
    """A customer's details changed."""

    type: ClassVar = "contact.updated"


class ConsentEvent(ExternalEvent):
    """A permission per purpose and channel."""

    purpose: Literal["marketing", "surveys"]
    channel: Literal["email", "sms", "phone", "post"]
    wording_version: Name = "1"
    recipient: Name = "Rapport"


class ConsentGiven(ConsentEvent):
    """The customer gave a permission."""

    type: ClassVar = "consent.given"


class ConsentWithdrawn(ConsentEvent):
    """The customer took a permission back."""

    type: ClassVar = "consent.withdrawn"


class Line(BaseModel):
    """One line of a purchase; net, tax apart, in minor units."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    line: Number = "1"
    sku: Number
    quantity: Annotated[int, Field(ge=0, le=10**9, strict=True)]
    net_minor: Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]
    tax_minor: Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)] = 0
    category: Name | None = None
    excluded: bool = False


class PurchaseRecorded(ExternalEvent):
    """A customer paid; `order` is the sender's order number, `occurred_at` the time of sale."""

    type: ClassVar = "purchase.recorded"
    order: Number
    occurred_at: AwareDatetime
    currency: Currency
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=1000)]
    shipping_minor: Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)] = 0
    shop: Name | None = None

    @model_validator(mode="after")
    def _line_ids_differ(self) -> Self:
        ids = [line.line for line in self.lines]
        if len(set(ids)) != len(ids):
            msg = "lines: the same `line` occurs twice"
            raise ValueError(msg)
        return self


class RefundLine(BaseModel):
    """How much of one line's net is given back."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    line: Number
    net_minor: Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]


class PurchaseRefunded(ExternalEvent):
    """Money of an order is given back; no `lines` means all that is left of it."""

    type: ClassVar = "purchase.refunded"
    order: Number
    occurred_at: AwareDatetime
    currency: Currency
    lines: tuple[RefundLine, ...] | None = None


ContactRegistered.model_rebuild()

EXTERNAL_TYPES: dict[str, type[ExternalEvent]] = {
    event.type: event
    for event in (
        ContactRegistered,
        ContactUpdated,
        ConsentGiven,
        ConsentWithdrawn,
        PurchaseRecorded,
        PurchaseRefunded,
    )
}
