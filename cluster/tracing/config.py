"""Settings of traces."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TraceConfig(BaseModel):
    """Traces: what each step and each batch did, and when. Off unless a file or a receiver is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = None
    """File for a trace that Perfetto and chrome://tracing show, such as ``trace.json``; it is written at the end.
    ``{driver}`` in it stands for the process that writes it; a batch on several drivers needs that."""
    max_events: int = Field(default=200_000, ge=100)
    """Maximum number of events kept for the file. It says how many more there were."""
    otlp_url: str | None = None
    """URL of an OpenTelemetry receiver (OTLP over HTTP), such as http://localhost:4318/v1/traces. It gets the spans of
    each line while they end. Needs the extra ``otel``."""

    @property
    def is_on(self) -> bool:
        return self.path is not None or self.otlp_url is not None
