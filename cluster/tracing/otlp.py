"""Spans for an OpenTelemetry receiver: OTLP over HTTP, sent in batches by a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.errors import ConfigError
from cluster.tracing.spans import TraceSpan

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

FLUSH_S = 5.0
"""Time for the last spans to be sent at the end."""


class OtlpExport:
    """Sends the spans of jobs: of steps, and of each request with its wait and its time in an engine.

    The library keeps a bounded queue, and drops what does not fit while the receiver is away.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError if the exporter's package is missing."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigError(
                "trace.otlp_url must have its package; run: pip install 'raydub[otel]', or leave it out"
            ) from error
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._resource = Resource.create({"service.name": "raydub"})
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url))

    def add(self, span: TraceSpan) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        if not span.trace_id or not span.span_id:
            return
        attributes = {"raydub.track": span.track, "raydub.lane": span.lane, "raydub.item": span.item}
        attributes |= {f"raydub.{key}": value for key, value in span.attributes.items()}
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.trace_id, span.span_id),
                parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR if "error" in span.attributes else StatusCode.UNSET),
                start_time=round(1e9 * span.begin_s),
                end_time=round(1e9 * span.end_s),
            )
        )

    def write(self) -> None:
        """Send what is left."""
        self._processor.force_flush(round(1e3 * FLUSH_S))
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(trace_id: str, span_id: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)
