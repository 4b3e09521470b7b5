"""Spans of a pool's batches and of the requests in them, for the jobs that are traced."""

from __future__ import annotations

from collections.abc import Sequence

from actors.host import BatchReport
from cluster.pools.request_queue import PendingRequest
from cluster.tracing.spans import EPOCH_S, Span, SpanSink, new_span_id


def trace_batch(
    pool: str,
    replica: int,
    entries: Sequence[PendingRequest],
    sent_s: float,
    answered_s: float,
    report: BatchReport | None,
) -> None:
    """Record a batch that was answered, or was lost with its replica if there is no report.

    Times are those of the event loop.
    """
    traced = [entry for entry in entries if entry.span is not None]
    if not traced:
        return
    sent_s, answered_s = sent_s + EPOCH_S, answered_s + EPOCH_S
    began_s, ended_s = _engine_times(report, sent_s, answered_s)
    lane, outcome = f"replica {replica}", {} if report is not None else {"error": "lost"}
    ids = [new_span_id() for _ in traced]
    for entry, span_id in zip(traced, ids, strict=True):
        assert entry.span is not None
        queued_s = entry.queued_s + EPOCH_S
        entry.span.sink.add(
            Span(
                name=pool,
                kind="request",
                track=pool,
                lane="waiting",
                begin_s=queued_s,
                end_s=answered_s,
                item=entry.span.item,
                trace_id=entry.span.trace_id,
                span_id=span_id,
                parent_id=entry.span.span_id,
                attributes={
                    "request": type(entry.request).__name__,
                    "cost": entry.cost,
                    "order": entry.order,
                    "priority": entry.priority,
                    "job": entry.job,
                    "replica": replica,
                    "sent_after_s": sent_s - queued_s,
                    "began_after_s": began_s - queued_s,
                    "ended_after_s": ended_s - queued_s,
                    **outcome,
                },
            )
        )
    for sink in _sinks(traced):
        sink.add(
            Span(
                name=f"batch of {len(entries)}",
                kind="batch",
                track=pool,
                lane=lane,
                begin_s=began_s,
                end_s=ended_s,
                attributes={
                    "num_items": len(entries),
                    "cost": sum(entry.cost for entry in entries),
                    "requests": ids,
                    **outcome,
                },
            )
        )


def trace_load(sink: SpanSink | None, pool: str, replica: int, begin_s: float, end_s: float) -> None:
    """Record the start of a replica, from its request to its readiness."""
    if sink is not None:
        sink.add(
            Span(
                name="start",
                kind="load",
                track=pool,
                lane=f"replica {replica}",
                begin_s=begin_s + EPOCH_S,
                end_s=end_s + EPOCH_S,
            )
        )


def _engine_times(report: BatchReport | None, sent_s: float, answered_s: float) -> tuple[float, float]:
    """Begin and end of the engine's call. The clock of another node may differ: both lie within the call's way."""
    if report is None:
        return sent_s, answered_s
    latest_s = max(sent_s, answered_s - report.run_s)
    began_s = latest_s if report.began_s is None else min(max(sent_s, report.began_s), latest_s)
    return began_s, min(began_s + report.run_s, answered_s)


def _sinks(entries: Sequence[PendingRequest]) -> list[SpanSink]:
    found = {id(entry.span.sink): entry.span.sink for entry in entries if entry.span is not None}
    return list(found.values())
