"""One function per event or timer; the tables at the end are the map of the service."""

from loyalty.handlers.members import enrol_members, join_members
from loyalty.handlers.purchases import award_points
from loyalty.handlers.refunds import reverse_points
from loyalty.handlers.timers import (
    activate_points,
    expire_points,
    release_holds,
    report_waiting_refunds,
)
from rapport.contracts.contacts import (
    ContactMerged,
    ContactRegistered,
    PurchaseRecorded,
    PurchaseRefunded,
)
from rapport.messaging.handler import Handlers, TimerHandlers

HANDLERS: Handlers = {
    ContactRegistered: enrol_members,
    PurchaseRecorded: award_points,
    PurchaseRefunded: reverse_points,
    ContactMerged: join_members,
}

TIMERS: TimerHandlers = {
    "activation": activate_points,
    "expiry": expire_points,
    "hold": release_holds,
    "waiting-refund": report_waiting_refunds,
}
