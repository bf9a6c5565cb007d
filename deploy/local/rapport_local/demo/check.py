"""Compares what the services say with the independent count, and names every difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rapport.reconciling import Reconciliation
from rapport_local.demo.access import flat

Expected = Mapping[str, str | int]
"""Path in a service's totals to the name in the count, or to a number that always holds."""

CONTACTS: Expected = {
    "contacts": "contacts",
    "references": "contacts",
    "provisional": 0,
    "purchases": "purchases",
    "refunds": "refunds",
    "waiting_refunds": 0,
    "revenue_gross_minor": "revenue_gross_minor",
    "refunded_minor": "refunded_minor",
    "consents": "consents",
    "marketing_consents": "consents",
    "anniversaries_published": "anniversaries",
    "external_events": "external_events",
    "timeline": "events",
}
LOYALTY: Expected = {
    "members": "contacts",
    "points.pending": "points_pending",
    "points.active": "points_active",
    "points.held": 0,
    "points.debt": 0,
    "lots.pending": "lots_pending",
    "lots.active": "lots_active",
    "lot_points.pending": "points_pending",
    "lot_points.active": "points_active",
    "programme.issued": "points",
    "programme.redeemed": 0,
    "programme.expired": 0,
    "owed": 0,
    "journals": "journals",
    "journals_unbalanced": 0,
    "lines": "ledger_lines",
    "purchases": "purchases",
    "refunds": "refunds",
    "refunds_waiting": 0,
}
NOTIFICATIONS: Expected = {
    "messages.sent": "messages_sent",
    "messages.queued": 0,
    "messages.suppressed": "messages_suppressed",
    "messages.unknown": 0,
    "messages.failed": 0,
    "reasons.too_old": "thanks_too_old",
    "reasons.consent": "anniversary_consent",
    "by_rule.thank-you.sent": "thanks_sent",
    "by_rule.thank-you.suppressed": "thanks_too_old",
    "by_rule.anniversary.sent": "anniversary_sent",
    "by_rule.anniversary.suppressed": "anniversary_consent",
    "recipients": "contacts",
    "marketing_consents": "consents",
    "suppressed_addresses": 0,
}
ANALYTICS: Expected = {
    "facts.contact_registered": "contacts",
    "facts.purchase": "purchases",
    "facts.refund": "refunds",
    "facts.points_pending": "pended",
    "facts.points_awarded": "awarded",
    "facts.points_reversed": "reversed",
    "facts.message_sent": "messages_sent",
    "facts.message_suppressed": "messages_suppressed",
    "facts.anniversary": "anniversaries",
    "revenue_gross_minor": "revenue_gross_minor",
    "refunded_minor": "refunded_minor",
    "revenue_minor": "revenue_minor",
    "live_revenue_minor": "revenue_minor",
    "contacts_with_purchase": "purchasers",
    "waiting_refunds": 0,
    "segment_joined": 0,
    "segment_members": "segment_members",
    "segment_entered": "segment_entered",
    "segment_exited": "segment_exited",
}
EXPECTED = {
    "contacts": CONTACTS,
    "loyalty": LOYALTY,
    "notifications": NOTIFICATIONS,
    "analytics": ANALYTICS,
}
GROUPS = ("facts.", "reasons.", "messages.", "by_rule.")
"""Totals by kind: kinds that do not occur are left out, and none may occur that nobody expects."""


@dataclass(frozen=True)
class Check:
    """One total, as it is and as it must be."""

    service: str
    name: str
    expected: int
    found: int | None

    @property
    def agrees(self) -> bool:
        """Tell whether the two are equal."""
        return self.expected == self.found

    def __str__(self) -> str:
        """Say the difference in a line."""
        found = "missing" if self.found is None else f"{self.found:,}"
        return f"{self.service}: {self.name} is {found} and must be {self.expected:,}"


def check_totals(count: Mapping[str, int], totals: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Compare every service's totals with the count."""
    checks: list[Check] = []
    for service, expected in EXPECTED.items():
        found = flat(totals[service])
        for path, rule in expected.items():
            wanted = rule if isinstance(rule, int) else count.get(rule, 0)
            # Groups leave out what does not occur.
            absent = 0 if path.startswith(GROUPS) else None
            checks.append(Check(service, path, wanted, found.get(path, absent)))
        strange = [path for path in found if path.startswith(GROUPS) and path not in expected]
        checks += [Check(service, path, 0, found[path]) for path in strange if found[path]]
    return checks


def check_mails(count: Mapping[str, int], mails: Mapping[str, int]) -> list[Check]:
    """Compare what the mail sink holds: every mail once."""
    wanted = count.get("messages_sent", 0)
    return [
        Check("mail sink", "mails", wanted, mails.get("total")),
        Check("mail sink", "different mails", wanted, mails.get("distinct")),
    ]


def check_events(count: Mapping[str, int], reconciliation: Reconciliation) -> list[Check]:
    """Compare the numbers given on each stream, and the outbox's rows, with the count."""
    checks = []
    for written in reconciliation.written:
        service = written.stream.partition(".")[0]
        wanted = count.get(f"events_{service}", 0)
        checks.append(Check(service, "events published", wanted, written.numbered))
        checks.append(Check(service, "outbox rows", wanted, written.rows))
    return checks


def list_differences(checks: list[Check], reconciliation: Reconciliation) -> list[str]:
    """Return a line for each total that differs, and for whatever does not reconcile."""
    lines = [str(check) for check in checks if not check.agrees]
    lines += reconciliation.differences
    for consumed in reconciliation.consumed:
        open_ = {"in flight": consumed.in_flight, "parked": consumed.parked}
        for what, number in open_.items():
            if number:
                lines.append(f"{consumed.consumer}: {number} of {consumed.stream} {what}")
    return lines
