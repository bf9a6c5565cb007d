"""Categories of messages: what kind they are, and which gates are switched on for them."""

from __future__ import annotations

from datetime import time, timedelta
from functools import lru_cache
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MessageClass = Literal["transactional", "marketing", "critical"]
NO_QUIET_HOURS = time(0)


class QuietHours(BaseModel):
    """Nothing is handed over from `start` until `end`, local time; equal times mean never quiet."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    start: time
    end: time


class Cap(BaseModel):
    """At most `count` messages of the category in `days`, counted at hand-over."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = Field(ge=1, le=1000)
    days: int = Field(ge=1, le=366)
    overflow: Literal["drop", "defer"]

    @property
    def window(self) -> timedelta:
        """How far back messages are counted."""
        return timedelta(days=self.days)


class Rules(BaseModel):
    """What one version of a category says; the defaults switch every optional gate off."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    message_class: MessageClass
    purpose: str | None = Field(default=None, min_length=1, max_length=50)
    optional: bool = False
    complaint_hold: bool = False
    cap: Cap | None = None
    quiet_hours: QuietHours = QuietHours(start=NO_QUIET_HOURS, end=NO_QUIET_HOURS)
    zone: str = "Europe/Prague"
    subject_age_days: int | None = Field(default=None, ge=1, le=3660)
    age_limit_hours: int = Field(default=48, ge=1, le=8784)

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("not a time zone of the IANA database") from error
        return zone

    @model_validator(mode="after")
    def _marketing_has_purpose(self) -> Self:
        if self.message_class == "marketing" and self.purpose is None:
            raise ValueError("purpose: marketing needs the purpose that consent is asked for")
        return self

    @property
    def age_limit(self) -> timedelta:
        """How long a decided message may wait for its hand-over."""
        return timedelta(hours=self.age_limit_hours)

    @property
    def subject_age(self) -> timedelta | None:
        """How old what the message is about may be when it is decided."""
        return None if self.subject_age_days is None else timedelta(days=self.subject_age_days)


class Category(BaseModel):
    """A version of a category in force."""

    model_config = ConfigDict(frozen=True)
    code: str
    version: int
    rules: Rules


@lru_cache(maxsize=256)
def parse_category(code: str, version: int, rules: str) -> Category:
    """Read a stored version; `rules` is its JSON text."""
    return Category(code=code, version=version, rules=Rules.model_validate_json(rules))
