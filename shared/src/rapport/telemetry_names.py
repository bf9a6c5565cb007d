"""Every span, attribute and metric name that leaves a process. Register a name before using it.

Names follow the OpenTelemetry semantic conventions that `SCHEMA_URL` pins (messaging is still
"Development" there, so nothing else spells them); ours start with `rapport.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "rapport"

# Attributes
MESSAGING_SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
CONSUMER_GROUP = "messaging.consumer.group.name"
KAFKA_OFFSET = "messaging.kafka.offset"
MESSAGE_ID = "messaging.message.id"
BATCH_COUNT = "messaging.batch.message_count"
EVENT_TYPE = "cloudevents.event_type"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_SCHEME = "url.scheme"
OUTCOME = "rapport.outcome"
REASON = "rapport.reason"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

SPAN_ATTRIBUTES = frozenset(
    {
        MESSAGING_SYSTEM,
        OPERATION_NAME,
        OPERATION_TYPE,
        DESTINATION,
        PARTITION,
        CONSUMER_GROUP,
        KAFKA_OFFSET,
        MESSAGE_ID,
        BATCH_COUNT,
        EVENT_TYPE,
        ERROR_TYPE,
        HTTP_METHOD,
        HTTP_ROUTE,
        HTTP_STATUS,
        URL_SCHEME,
        OUTCOME,
        REASON,
    }
)
"""Attributes of spans whose values are ours: identifiers, names and counts. Others are dropped."""

EVENT_ATTRIBUTES = frozenset({EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE})
"""Attributes of span events; their text is masked."""

# Operations: `<operation> <stream>` is a span's name
CREATE = "create"
SEND = "send"
POLL = "poll"
PROCESS = "process"
COMMIT = "commit"

OPERATION_TYPES = {
    CREATE: "create",
    SEND: "send",
    POLL: "receive",
    PROCESS: "process",
    COMMIT: "settle",
}

# Metrics: the label names of the Prometheus text, and the attribute that OTLP carries for each
LABELS = {
    "stream": DESTINATION,
    "partition": PARTITION,
    "operation": OPERATION_NAME,
    "outcome": OUTCOME,
    "reason": REASON,
}

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EFFECT_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0),
)
COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0, 100_000.0)


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric: OpenTelemetry name, UCUM unit, labels in order, upper bounds if a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """Name in the Prometheus text, by OpenTelemetry's rules: unit as suffix, no dots.

        Without the `_total` of counters, which the text format adds.
        """
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix


_STREAM = ("stream",)
_PARTITION = ("stream", "partition")

OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    "Duration of a send or a commit",
    ("operation", "stream"),
    SECONDS,
)
SENT_MESSAGES = Metric(
    "messaging.client.sent.messages", "counter", "{message}", "Records acknowledged", _PARTITION
)
CONSUMED_MESSAGES = Metric(
    "messaging.client.consumed.messages", "counter", "{message}", "Records received", _PARTITION
)
PROCESS_DURATION = Metric(
    "messaging.process.duration", "histogram", "s", "A batch's transaction", _STREAM, SECONDS
)
OUTBOX_OLDEST_AGE = Metric(
    "rapport.outbox.oldest_age", "gauge", "s", "Age of the oldest event not acknowledged by Kafka"
)
OUTBOX_BACKLOG = Metric(
    "rapport.outbox.backlog", "gauge", "{event}", "Events not acknowledged by Kafka"
)
TICK_SIZE = Metric(
    "rapport.relay.tick.size", "histogram", "{event}", "Events numbered by a tick", (), COUNTS
)
LEASE_TRANSITIONS = Metric(
    "rapport.relay.lease.transitions", "counter", "{transition}", "Lease taken or lost here"
)
CONSUMER_TIME_LAG = Metric(
    "rapport.consumer.time_lag", "gauge", "s", "Age of the oldest record not applied", _PARTITION
)
CONSUMER_BATCH_SIZE = Metric(
    "rapport.consumer.batch.size", "histogram", "{event}", "Events per transaction", _STREAM, COUNTS
)
CONSUMER_BATCH_WAVES = Metric(
    "rapport.consumer.batch.waves", "histogram", "{wave}", "Waves per batch", _STREAM, COUNTS
)
UNKNOWN_TYPES = Metric(
    "rapport.consumer.unknown_types", "counter", "{event}", "Events of an unknown type", _STREAM
)
EFFECT_DURATION = Metric(
    "rapport.event.effect.duration",
    "histogram",
    "s",
    "From the commit of an event to the commit of its effect",
    _PARTITION,
    EFFECT_SECONDS,
)
INBOX_DUPLICATES = Metric(
    "rapport.inbox.duplicates", "counter", "{event}", "External events that were known already"
)
INBOX_REJECTED = Metric(
    "rapport.inbox.rejected", "counter", "{event}", "External events and records refused"
)
PARKED_EVENTS = Metric(
    "rapport.parked.events", "counter", "{event}", "Events parked, also behind others", _PARTITION
)
PARKED_CONTACTS = Metric("rapport.parked.contacts", "gauge", "{contact}", "Contacts that wait now")
PARKED_OLDEST_AGE = Metric(
    "rapport.parked.oldest_age", "gauge", "s", "Age of the oldest parked event"
)
REDRIVE = Metric(
    "rapport.redrive", "counter", "{event}", "Parked events redriven or discarded", ("outcome",)
)
OLDEST_XMIN_AGE = Metric(
    "rapport.db.oldest_xmin_age", "gauge", "{transaction}", "Age of the oldest snapshot in use"
)
RECONCILIATION_MISSING = Metric(
    "rapport.reconciliation.missing", "gauge", "{event}", "Numbers that never came", _PARTITION
)
BUSINESS_OUTCOMES = Metric(
    "rapport.business.outcomes",
    "counter",
    "{outcome}",
    "What became of business cases, such as message_suppressed by consent",
    ("outcome", "reason"),
)

METRICS: tuple[Metric, ...] = (
    OPERATION_DURATION,
    SENT_MESSAGES,
    CONSUMED_MESSAGES,
    PROCESS_DURATION,
    OUTBOX_OLDEST_AGE,
    OUTBOX_BACKLOG,
    TICK_SIZE,
    LEASE_TRANSITIONS,
    CONSUMER_TIME_LAG,
    CONSUMER_BATCH_SIZE,
    CONSUMER_BATCH_WAVES,
    UNKNOWN_TYPES,
    EFFECT_DURATION,
    INBOX_DUPLICATES,
    INBOX_REJECTED,
    PARKED_EVENTS,
    PARKED_CONTACTS,
    PARKED_OLDEST_AGE,
    REDRIVE,
    OLDEST_XMIN_AGE,
    RECONCILIATION_MISSING,
    BUSINESS_OUTCOMES,
)
