"""External events as tests send them."""

from __future__ import annotations

from typing import Any

from rapport.messaging.inbox import External


def event(
    id_: str,
    type_: str,
    source: str = "cdnow",
    customer: str = "7",
    **body: Any,  # noqa: ANN401  data of any shape
) -> External:
    return External(source, id_, type_, None, {"customer": customer} | body)


def purchase(
    id_: str,
    order: str = "o1",
    net: int = 1000,
    **body: Any,  # noqa: ANN401  the same
) -> External:
    lines = [{"line": "1", "sku": "cd", "quantity": 1, "net_minor": net}]
    values = {"occurred_at": "1997-03-02T12:00:00+01:00", "currency": "USD", "lines": lines}
    return event(id_, "purchase.recorded", **{"order": order} | values | body)


def refund(
    id_: str,
    order: str = "o1",
    net: int | None = None,
    **body: Any,  # noqa: ANN401  the same
) -> External:
    values: dict[str, Any] = {"occurred_at": "1997-03-22T12:00:00+01:00", "currency": "USD"}
    if net is not None:
        values["lines"] = [{"line": "1", "net_minor": net}]
    return event(id_, "purchase.refunded", **{"order": order} | values | body)
