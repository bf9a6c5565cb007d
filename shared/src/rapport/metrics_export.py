"""Two views of the metrics store: Prometheus text, and OTLP pushed from a thread."""

from __future__ import annotations

import threading
import time
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from rapport import telemetry_names as names
from rapport.metrics import STORE, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource
    from prometheus_client.metrics_core import Metric as Family

    from rapport.metrics import Distribution, Labels
    from rapport.telemetry_names import Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class StoreCollector(Collector):
    """Gives Prometheus' client the store's values."""

    def __init__(self, store: Store) -> None:
        """Read this store whenever asked."""
        self._store = store

    def collect(self) -> Iterator[Family]:
        """Yield every metric that has a value."""
        for metric in names.METRICS:
            if family := self._family(metric):
                yield family

    def _family(self, metric: Metric) -> Family | None:
        known = (metric.prometheus_name, metric.description)
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(*known, labels=metric.labels)
            for labels, distribution in self._store.distributions_of(metric).items():
                histogram.add_metric(labels, *_cumulated(metric, distribution))
            return histogram if histogram.samples else None
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = kind(*known, labels=metric.labels)
        for labels, value in self._store.numbers_of(metric).items():
            family.add_metric(labels, value)
        return family if family.samples else None


def _cumulated(metric: Metric, distribution: Distribution) -> tuple[list[tuple[str, float]], float]:
    bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
    return list(zip(bounds, accumulate(distribution.buckets), strict=True)), distribution.sum


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(StoreCollector(STORE))
    return registry


_REGISTRY = _registry()


def prometheus_text() -> bytes:
    """Return the body of `GET /metrics`, of `CONTENT_TYPE`, with the process's own figures."""
    return generate_latest(_REGISTRY)


class OtlpMetrics:
    """Pushes the store by OTLP/HTTP from a thread of its own, every `interval_seconds`."""

    def __init__(self, resource: Resource, interval_seconds: float) -> None:
        """Start the thread."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  heavy
            OTLPMetricExporter,
        )

        self._exporter: MetricExporter = OTLPMetricExporter()
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._export()

    def _export(self) -> None:
        self._exporter.export(otlp_data(STORE, self._resource))

    def stop(self) -> None:
        """Push once more and stop; may block for the exporter's time-out."""
        self._stopping.set()
        self._thread.join()
        self._export()
        self.abandon()

    def abandon(self) -> None:
        """Give up what is being pushed."""
        self._exporter.shutdown()


def otlp_data(store: Store, resource: Resource) -> MetricsData:
    """Return the store in OpenTelemetry's data model, cumulative."""
    from opentelemetry.sdk.metrics import export  # noqa: PLC0415  heavy, and only if on
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

    metrics = [made for metric in names.METRICS if (made := _otlp_metric(store, metric))]
    scope = InstrumentationScope(names.SCOPE, None, names.SCHEMA_URL)
    scoped = [export.ScopeMetrics(scope, metrics, names.SCHEMA_URL)]
    return export.MetricsData([export.ResourceMetrics(resource, scoped, names.SCHEMA_URL)])


def _otlp_metric(store: Store, metric: Metric) -> OtlpMetric | None:
    from opentelemetry.sdk.metrics import export  # noqa: PLC0415

    now = time.time_ns()
    cumulative = export.AggregationTemporality.CUMULATIVE
    content: export.Histogram | export.Sum | export.Gauge
    if metric.kind == "histogram":
        distributions = store.distributions_of(metric)
        content = export.Histogram(
            [
                export.HistogramDataPoint(
                    attributes=_attributes(metric, labels),
                    start_time_unix_nano=store.started_ns,
                    time_unix_nano=now,
                    count=sum(buckets := list(distribution.buckets)),
                    sum=distribution.sum,
                    bucket_counts=buckets,
                    explicit_bounds=metric.bounds,
                    min=distribution.smallest,
                    max=distribution.largest,
                )
                for labels, distribution in distributions.items()
            ],
            cumulative,
        )
    else:
        points = [
            export.NumberDataPoint(_attributes(metric, labels), store.started_ns, now, value)
            for labels, value in store.numbers_of(metric).items()
        ]
        counter = metric.kind == "counter"
        content = export.Sum(points, cumulative, counter) if counter else export.Gauge(points)
    if not content.data_points:
        return None
    return export.Metric(metric.name, metric.description, metric.unit, content)


def _attributes(metric: Metric, labels: Labels) -> dict[str, str]:
    named = {names.LABELS[label]: value for label, value in zip(metric.labels, labels, strict=True)}
    return {names.MESSAGING_SYSTEM: "kafka", **named} if "stream" in metric.labels else named
