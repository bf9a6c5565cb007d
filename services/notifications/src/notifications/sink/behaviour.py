"""How the sink treats its clients: well, unless it is told otherwise."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Step = Literal["mail", "rcpt", "data", "content"]


class Behaviour(BaseModel):
    """What to do at a step of the conversation, the next `times` times (for ever without).

    `code` and `text` are answered; `cut` closes the connection without an answer, having kept the
    mail or not; `delay_seconds` goes before either. `to` restricts it to recipients that contain
    the text. The step `content` comes after the mail's last byte.
    """

    model_config = ConfigDict(extra="forbid")
    step: Step = "content"
    code: Annotated[int, Field(ge=200, le=599)] | None = None
    text: str = "as you wished"
    cut: bool = False
    keep: bool = False
    delay_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    times: Annotated[int, Field(ge=1)] | None = None
    to: str | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.code is None and not self.cut and not self.delay_seconds:
            raise ValueError("give `code`, `cut` or `delay_seconds`")
        return self


class Behaviours:
    """The wishes in force; the first that fits is used."""

    def __init__(self) -> None:
        """Begin without wishes."""
        self.wishes: list[Behaviour] = []

    def take(self, step: Step, recipients: list[str]) -> Behaviour | None:
        """Return the wish that fits, and count it down."""
        for wish in self.wishes:
            fits = wish.to is None or any(wish.to in recipient for recipient in recipients)
            if wish.step == step and fits:
                self._count_down(wish)
                return wish
        return None

    def _count_down(self, wish: Behaviour) -> None:
        if wish.times is None:
            return
        wish.times -= 1
        if wish.times == 0:
            self.wishes.remove(wish)
