"""What analytics does with each event: the map of the service is `HANDLERS`."""

from __future__ import annotations

from analytics.handlers.contacts import join_profiles, open_profiles
from analytics.handlers.events import (
    count_anniversaries,
    count_awarded_points,
    count_pending_points,
    count_reversed_points,
    count_sent_messages,
    count_suppressed_messages,
)
from analytics.handlers.purchases import record_purchases, record_refunds
from rapport.contracts.contacts import (
    AnniversaryDue,
    ContactMerged,
    ContactRegistered,
    PurchaseRecorded,
    PurchaseRefunded,
)
from rapport.contracts.loyalty import PointsAwarded, PointsPending, PointsReversed
from rapport.contracts.notifications import MessageSent, MessageSuppressed
from rapport.messaging.handler import Handlers

HANDLERS: Handlers = {
    ContactRegistered: open_profiles,
    ContactMerged: join_profiles,
    PurchaseRecorded: record_purchases,
    PurchaseRefunded: record_refunds,
    AnniversaryDue: count_anniversaries,
    PointsPending: count_pending_points,
    PointsAwarded: count_awarded_points,
    PointsReversed: count_reversed_points,
    MessageSent: count_sent_messages,
    MessageSuppressed: count_suppressed_messages,
}
