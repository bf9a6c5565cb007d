"""Metrics as Prometheus and a collector read them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rapport import metrics, metrics_export, telemetry
from rapport import telemetry_names as names
from rapport.testing.otlp import OtlpReceiver

STREAM = "contacts.events.v1"
ORDER = ("stream", "partition", "outcome", "reason", "le")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> metrics.Store:
    """Give each test an empty store."""
    fresh = metrics.Store()
    for attribute in ("numbers", "distributions", "callbacks"):
        monkeypatch.setattr(metrics.STORE, attribute, getattr(fresh, attribute))
    return metrics.STORE


def _read() -> dict[tuple[str, ...], float]:
    text = metrics_export.prometheus_text().decode()
    return {
        (sample.name, *(sample.labels[k] for k in ORDER if k in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_effects_are_a_histogram_in_seconds() -> None:
    metrics.observe_effect_durations(STREAM, 2, [0.004, 0.01, 0.02, 99999])
    metrics.observe_effect_durations(STREAM, 2, [])
    read = _read()
    name = "rapport_event_effect_duration_seconds"
    assert read[f"{name}_count", STREAM, "2"] == 4
    assert read[f"{name}_sum", STREAM, "2"] == pytest.approx(99999.034)
    buckets = {key[3]: n for key, n in read.items() if key[0] == f"{name}_bucket"}
    assert buckets["0.005"] == 1
    assert buckets["0.01"] == 2  # a value equal to the bound belongs to the bucket
    assert buckets["0.025"] == buckets["1800.0"] == 3
    assert buckets["+Inf"] == 4


def test_counters_add_up() -> None:
    metrics.count_parked(STREAM, 0)
    metrics.count_parked(STREAM, 0, 2)
    metrics.count_parked(STREAM, 1)
    metrics.count_outcome("message_suppressed", "consent", 3)
    read = _read()
    assert read["rapport_parked_events_total", STREAM, "0"] == 3
    assert read["rapport_parked_events_total", STREAM, "1"] == 1
    assert read["rapport_business_outcomes_total", "message_suppressed", "consent"] == 3


def test_gauges_are_set_or_asked() -> None:
    metrics.set_gauge(names.CONSUMER_TIME_LAG, 1.5, STREAM, 4)
    metrics.watch_gauge(names.OUTBOX_BACKLOG, lambda: 17)
    metrics.watch_gauge(names.RECONCILIATION_MISSING, lambda: {(STREAM, "1"): 2})
    metrics.watch_gauge(names.OUTBOX_OLDEST_AGE, lambda: None)
    read = _read()
    assert read["rapport_consumer_time_lag_seconds", STREAM, "4"] == 1.5
    assert read["rapport_outbox_backlog",] == 17
    assert read["rapport_reconciliation_missing", STREAM, "1"] == 2
    assert ("rapport_outbox_oldest_age_seconds",) not in read


def test_a_failing_gauge_hides_itself_only() -> None:
    def broken() -> float:
        raise OSError

    metrics.watch_gauge(names.OUTBOX_BACKLOG, broken)
    metrics.count_duplicates(5)
    read = _read()
    assert read["rapport_inbox_duplicates_total",] == 5
    assert ("rapport_outbox_backlog",) not in read


def test_the_process_shows_its_memory() -> None:
    assert _read()["process_resident_memory_bytes",] > 1_000_000


def test_every_name_of_the_registry_is_unique_and_its_labels_are_known() -> None:
    assert len({metric.prometheus_name for metric in names.METRICS}) == len(names.METRICS)
    assert {label for metric in names.METRICS for label in metric.labels} == set(names.LABELS)
    declared = [value for value in vars(names).values() if isinstance(value, names.Metric)]
    assert set(declared) == set(names.METRICS)


async def test_a_collector_gets_the_same_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OtlpReceiver() as receiver:
        for name, value in receiver.environment.items():
            monkeypatch.setenv(name, value)
        metrics.observe_effect_durations(STREAM, 2, [0.004, 0.02])
        metrics.count_sent(STREAM, 1, 500)
        metrics.set_gauge(names.PARKED_CONTACTS, 6)
        telemetry.configure("loyalty")
        telemetry.shutdown()
        received = {metric.name: metric for metric in receiver.metrics}
    effect = received["rapport.event.effect.duration"]
    (point,) = effect.histogram.data_points
    assert (effect.unit, point.count, point.sum) == ("s", 2, pytest.approx(0.024))
    assert list(point.bucket_counts)[:3] == [1, 0, 1]
    assert {a.key: a.value.string_value for a in point.attributes} == {
        "messaging.system": "kafka",
        "messaging.destination.name": STREAM,
        "messaging.destination.partition.id": "2",
    }
    sent = received["messaging.client.sent.messages"].sum
    assert sent.is_monotonic
    assert sent.data_points[0].as_double == 500
    assert received["rapport.parked.contacts"].gauge.data_points[0].as_int == 6
