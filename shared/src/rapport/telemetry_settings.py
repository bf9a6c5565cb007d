"""The standard `OTEL_*` variables that decide whether anything is exported.

How it is exported (endpoints, headers, queue, sampler) the SDK reads by itself.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TelemetrySettings(BaseSettings):
    """Off unless an OTLP endpoint or exporter is named; `OTEL_SDK_DISABLED=true` wins."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True, extra="ignore")

    sdk_disabled: bool = False
    service_name: str | None = None
    traces_exporter: str = ""
    metrics_exporter: str = ""
    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_metrics_endpoint: str = ""
    traces_sampler: str = ""
    span_link_count_limit: int | None = Field(default=None, ge=1)
    metric_export_interval: float = Field(default=60_000, gt=0)

    @property
    def traces_wanted(self) -> bool:
        """Tell whether traces are to be exported."""
        if self.traces_sampler == "always_off":
            return False
        return self._wanted(self.traces_exporter, self.exporter_otlp_traces_endpoint)

    @property
    def metrics_wanted(self) -> bool:
        """Tell whether metrics are to be exported by OTLP; `/metrics` is there always."""
        return self._wanted(self.metrics_exporter, self.exporter_otlp_metrics_endpoint)

    def _wanted(self, exporter: str, own_endpoint: str) -> bool:
        if self.sdk_disabled:
            return False
        if exporter:
            return "otlp" in exporter.split(",")
        return bool(own_endpoint or self.exporter_otlp_endpoint)
