"""Why a fact is not taken."""

from __future__ import annotations

ORDER_CONFLICT = "order_conflict"


class RefusedError(Exception):
    """A well-formed event contradicts what is known; `reason` names `field`."""

    def __init__(self, field: str, complaint: str) -> None:
        """Keep the field's path; a complaint that is a code of its own stays one."""
        self.field = field
        self.reason = complaint if complaint == ORDER_CONFLICT else f"{field}: {complaint}"
        super().__init__(self.reason)
