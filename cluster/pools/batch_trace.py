"""Spans of a pool's batches and of the requests in them, for the jobs that are traced."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actors.host import BatchReport
from cluster.pools.request_queue import PendingRequest
from cluster.tracing.spans import EPOCH_S, SpanContext, SpanSink, TraceSpan, new_span_id


class _Request(NamedTuple):
    """A request in a trace: neither itself, which may be large, nor its result."""

    outer: SpanContext
    kind: str
    cost: float
    order: float
    priority: int
    job: str
    queued_s: float


class _Batch(NamedTuple):
    pool: str
    replica: int
    num_items: int
    cost: float
    sent_s: float
    began_s: float
    ended_s: float
    answered_s: float
    is_lost: bool


def trace_batch(
    pool: str,
    replica: int,
    entries: Sequence[PendingRequest],
    sent_s: float,
    answered_s: float,
    report: BatchReport | None,
) -> None:
    """Record a batch that was answered, or was lost with its replica if there is no report.

    Times are those of the event loop. Jobs that share pools have one sink.
    """
    traced = [
        _Request(span, type(each.request).__name__, each.cost, each.order, each.priority, each.job, each.queued_s)
        for each in entries
        if (span := each.span) is not None
    ]
    if not traced:
        return
    sent_s, answered_s = sent_s + EPOCH_S, answered_s + EPOCH_S
    began_s, ended_s = _engine_times(report, sent_s, answered_s)
    cost = sum(entry.cost for entry in entries)
    batch = _Batch(pool, replica, len(entries), cost, sent_s, began_s, ended_s, answered_s, report is None)
    traced[0].outer.sink.add_later(functools.partial(_spans, batch, traced), len(traced) + 1)


def _spans(batch: _Batch, requests: Sequence[_Request]) -> Iterator[TraceSpan]:
    """Each request from its submission to its answer, and the batch while an engine worked on it."""
    outcome = {"error": "lost"} if batch.is_lost else {}
    ids = []
    for request in requests:
        queued_s = request.queued_s + EPOCH_S
        ids.append(new_span_id())
        yield TraceSpan(
            name=batch.pool,
            kind="request",
            track=batch.pool,
            lane="waiting",
            begin_s=queued_s,
            end_s=batch.answered_s,
            item=request.outer.item,
            trace_id=request.outer.trace_id,
            span_id=ids[-1],
            parent_id=request.outer.span_id,
            attributes={
                "request": request.kind,
                "cost": request.cost,
                "order": request.order,
                "priority": request.priority,
                "job": request.job,
                "replica": batch.replica,
                "sent_after_s": batch.sent_s - queued_s,
                "began_after_s": batch.began_s - queued_s,
                "ended_after_s": batch.ended_s - queued_s,
                **outcome,
            },
        )
    yield TraceSpan(
        name=f"batch of {batch.num_items}",
        kind="batch",
        track=batch.pool,
        lane=f"replica {batch.replica}",
        begin_s=batch.began_s,
        end_s=batch.ended_s,
        attributes={"num_items": batch.num_items, "cost": batch.cost, "requests": ids, **outcome},
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
