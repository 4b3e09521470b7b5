"""Where the time of traced dubs went: the pool that bounds them, idle times by cause, what more replicas give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from actors.errors import ConfigError
from cluster.analysis.bottleneck import StageLoad
from cluster.analysis.call_model import CallModel
from cluster.analysis.replay import ReplayedPool, delivery_s, replay
from cluster.analysis.replay_engine import RecordedRequest
from cluster.analysis.work_graph import work_graph
from cluster.config.schema import PoolConfig
from cluster.tracing.chrome import Trace

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse(StageLoad):
    """The work of one pool, and the idle time of one of its replicas, on average, by cause."""

    wait_s: float
    """Mean wait of a request, until it went to a replica."""
    starting_s: float
    """Until a replica was ready."""
    starved_s: float
    """Nothing to do, until the last request came: the steps before had no more work ready."""
    handover_s: float
    """Requests waited, though the replica was idle: the way to it, or a driver that was busy."""
    tail_s: float
    """After the last request: the steps behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneMore:
    """The expected wall time with one more replica of a pool."""

    pool: str
    setting: str
    replicas: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnalysis:
    """Where the time of a trace's dubs went, taken together."""

    wall_s: float
    first_utterance_s: float | None
    bound: PoolUse
    pools: tuple[PoolUse, ...]
    replayed_s: float
    """Wall time of the replay with the replicas that there were: how far the replay can be believed."""
    what_if: tuple[OneMore, ...]


def analyse_trace(trace: Trace) -> TraceAnalysis:
    """Raises ConfigError if the trace has no batches, or not all its events."""
    if trace.num_dropped:
        raise ConfigError(
            f"a trace must be whole to be analysed; {trace.num_dropped} events are missing; raise trace.max_events"
        )
    steps = work_graph(trace)
    batches = _batches(trace, {each.id: each for step in steps for each, _ in step.requests})
    if not batches:
        raise ConfigError(
            "the trace must have batches; found none: all results were stored before; trace the first dub"
        )
    jobs = [span for span in trace.spans if span.kind == "job" and span.name == "dub"]
    begin_s, end_s = min(job.begin_s for job in jobs), max(job.end_s for job in jobs)
    ready_s = {name: _ready_s(trace, name, own) for name, own in batches.items()}
    uses = tuple(_use(trace, name, own, ready_s[name], (begin_s, end_s)) for name, own in batches.items())
    pools = {name: _replayed(trace, name, own, ready_s[name]) for name, own in batches.items()}
    as_it_was_s = replay(steps, pools, {})
    spoken_s = [span.end_s for span in trace.spans if span.kind == "step" and span.name == "speak"]
    return TraceAnalysis(
        wall_s=end_s - begin_s,
        first_utterance_s=min(spoken_s) - begin_s if spoken_s else None,
        bound=max(uses, key=lambda use: use.bound_s),
        pools=uses,
        replayed_s=as_it_was_s - begin_s,
        what_if=tuple(
            OneMore(
                pool=use.pool,
                setting=use.setting,
                replicas=use.replicas + 1,
                wall_s=end_s - begin_s + replay(steps, pools, {use.pool: 1}) - as_it_was_s,
            )
            for use in uses
        ),
    )


def _batches(trace: Trace, requests: dict[str, RecordedRequest]) -> dict[str, list[list[RecordedRequest]]]:
    """Pool → its answered batches, as they began."""
    found: dict[str, list[list[RecordedRequest]]] = defaultdict(list)
    for span in sorted(trace.spans, key=lambda span: span.begin_s):
        if span.kind == "batch":
            batch = [requests[each] for each in span.attributes["requests"] if each in requests]
            if batch:
                found[span.track].append(batch)
    return dict(found)


def _ready_s(trace: Trace, pool: str, batches: Sequence[Sequence[RecordedRequest]]) -> dict[int, float]:
    """When each replica that worked was ready."""
    ready_s: dict[int, float] = {}
    for span in trace.spans:
        if span.kind == "load" and span.track == pool:
            ready_s.setdefault(int(span.lane.rpartition(" ")[2]), span.end_s)
    for batch in batches:  # one that was loaded before the trace began
        ready_s.setdefault(batch[0].replica, 0.0)
    return ready_s


def _replayed(
    trace: Trace, pool: str, batches: Sequence[Sequence[RecordedRequest]], ready_s: dict[int, float]
) -> ReplayedPool:
    to_engine_s, from_engine_s = delivery_s([request for batch in batches for request in batch])
    return ReplayedPool(
        config=PoolConfig.model_validate(trace.pools[pool].config),
        ready_s=sorted(ready_s.values()),
        calls=CallModel(batches),
        to_engine_s=to_engine_s,
        from_engine_s=from_engine_s,
    )


# --- idle time


def _use(
    trace: Trace,
    pool: str,
    batches: Sequence[Sequence[RecordedRequest]],
    ready_s: dict[int, float],
    span: Interval,
) -> PoolUse:
    requests = [request for batch in batches for request in batch]
    waiting = _merged([(request.queued_s, request.sent_s) for request in requests])
    last_s = max(request.ended_s for request in requests)
    idle = {"starting": 0.0, "starved": 0.0, "handover": 0.0, "tail": 0.0}
    for replica, at_s in ready_s.items():
        at_s = max(span[0], at_s)
        busy = [(batch[0].began_s, batch[0].ended_s) for batch in batches if batch[0].replica == replica]
        free = _without((at_s, max(at_s, last_s)), _merged(busy))
        handed_s = sum(_overlap_s(each, waiting) for each in free)
        idle["starting"] += at_s - span[0]
        idle["handover"] += handed_s
        idle["starved"] += sum(end_s - begin_s for begin_s, end_s in free) - handed_s
        idle["tail"] += max(0.0, span[1] - max(at_s, last_s))
    config, number = trace.pools[pool].config, len(ready_s)
    is_fixed = config["min_replicas"] is None and config["max_replicas"] is None
    return PoolUse(
        pool=pool,
        setting=f"{trace.pools[pool].setting}.{'replicas' if is_fixed else 'max_replicas'}",
        replicas=number,
        num_items=len(requests),
        num_batches=len(batches),
        engine_s=sum(batch[0].ended_s - batch[0].began_s for batch in batches),
        wait_s=sum(request.sent_s - request.queued_s for request in requests) / len(requests),
        starting_s=idle["starting"] / number,
        starved_s=idle["starved"] / number,
        handover_s=idle["handover"] / number,
        tail_s=idle["tail"] / number,
    )


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    found: list[Interval] = []
    for begin_s, end_s in sorted(intervals):
        if found and begin_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((begin_s, end_s))
    return found


def _without(whole: Interval, taken: Sequence[Interval]) -> list[Interval]:
    """The parts of an interval outside of merged others."""
    found, at_s = [], whole[0]
    for begin_s, end_s in taken:
        if begin_s > at_s:
            found.append((at_s, min(begin_s, whole[1])))
        at_s = max(at_s, end_s)
    return [*found, (at_s, whole[1])] if at_s < whole[1] else found


def _overlap_s(one: Interval, others: Sequence[Interval]) -> float:
    return sum(max(0.0, min(one[1], end_s) - max(one[0], begin_s)) for begin_s, end_s in others)
