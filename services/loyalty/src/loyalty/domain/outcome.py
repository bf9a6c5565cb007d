"""What a change of a member's book came to."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Balance:
    """A member's points by state; what is past its expiry is none of them."""

    pending: int
    active: int
    held: int
    debt: int

    @property
    def spendable(self) -> int:
        """What a spend may take: what is owed comes first."""
        return max(self.active - self.debt, 0)


@dataclass(frozen=True, slots=True)
class Activation:
    """Points that became active; `repaid` of them settled a debt."""

    points: int
    repaid: int


@dataclass(slots=True)
class Reversal:
    """Where a claw found its points."""

    from_pending: int = 0
    from_active: int = 0
    to_debt: int = 0

    @property
    def points(self) -> int:
        """All that was taken back."""
        return self.from_pending + self.from_active + self.to_debt


@dataclass(slots=True)
class Returned:
    """Held or spent points that came back to their lots.

    `points` are active again, less the `repaid` ones; `lapsed`, by purchase, are past their expiry.
    """

    points: int = 0
    repaid: int = 0
    lapsed: Counter[UUID] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Correction:
    """What dividing a day anew did to a purchase: so many `points` more or fewer, by account."""

    purchase_id: UUID
    points: int
    pending: int = 0
    active: int = 0
    debt: int = 0
    lapsed: int = 0
