"""Spans of a pool's batches and of the requests in them, for the jobs that are traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.host import BatchReport
from cluster.pools.request_queue import PendingRequest
from cluster.tracing.spans import EPOCH_S, SpanContext, SpanSink, TraceSpan, new_span_id


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
    outcome = {} if report is not None else {"error": "lost"}
    ids = []
    for entry in traced:
        assert entry.span is not None
        queued_s = entry.queued_s + EPOCH_S
        after_s = {
            "sent_after_s": sent_s - queued_s,
            "began_after_s": began_s - queued_s,
            "ended_after_s": ended_s - queued_s,
        }
        span = _request_span(
            pool, entry, entry.span, (queued_s, answered_s), {"replica": replica, **after_s, **outcome}
        )
        ids.append(span.span_id)
        entry.span.sink.add(span)
    told = {"num_items": len(entries), "cost": sum(entry.cost for entry in entries), "requests": ids, **outcome}
    batch = _batch_span(pool, replica, (began_s, ended_s), told)
    for sink in _sinks(traced):
        sink.add(batch)


def _request_span(
    pool: str, entry: PendingRequest, outer: SpanContext, span_s: tuple[float, float], attributes: Mapping[str, Any]
) -> TraceSpan:
    """A request, from its submission to its answer."""
    return TraceSpan(
        name=pool,
        kind="request",
        track=pool,
        lane="waiting",
        begin_s=span_s[0],
        end_s=span_s[1],
        item=outer.item,
        trace_id=outer.trace_id,
        span_id=new_span_id(),
        parent_id=outer.span_id,
        attributes={
            "request": type(entry.request).__name__,
            "cost": entry.cost,
            "order": entry.order,
            "priority": entry.priority,
            "job": entry.job,
            **attributes,
        },
    )


def _batch_span(pool: str, replica: int, span_s: tuple[float, float], attributes: Mapping[str, Any]) -> TraceSpan:
    """A batch, while the engine worked on it."""
    return TraceSpan(
        name=f"batch of {attributes['num_items']}",
        kind="batch",
        track=pool,
        lane=f"replica {replica}",
        begin_s=span_s[0],
        end_s=span_s[1],
        attributes=attributes,
    )


def trace_load(sink: SpanSink | None, pool: str, replica: int, begin_s: float, end_s: float) -> None:
    """Record the start of a replica, from its request to its readiness."""
    if sink is not None:
        sink.add(
            TraceSpan(
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
