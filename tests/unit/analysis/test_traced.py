"""Traces made by hand, whose replay can be computed in the head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.errors import ConfigError
from cluster.analysis.timeline import timeline
from cluster.analysis.traced import analyse_trace
from cluster.cli.main import app
from cluster.config.schema import BatchLimits, PoolConfig
from cluster.tracing.chrome import PoolSetting, Trace, document
from cluster.tracing.spans import TraceSpan

READY_S, CALL_S, NUM, TAIL_S = 1.0, 1.0, 8, 2.0
CONFIG = PoolConfig(batch=BatchLimits(max_items=1, lead_s=0.0)).model_dump(mode="json")


def span(name: str, kind: str, lane: str, begin_s: float, end_s: float, **more: object) -> TraceSpan:
    fields = {"track": "talk.mp4#0", "trace_id": "ab", "parent_id": "job", **more}
    return TraceSpan(name=name, kind=kind, lane=lane, begin_s=begin_s, end_s=end_s, **fields)  # type: ignore[arg-type]


def trace_of(pool: str = "translation/x", num_dropped: int = 0) -> Trace:
    """One replica that is ready after 1 s translates eight units of 1 s each, all of them known from the start."""
    end_s = READY_S + NUM * CALL_S
    spans = [
        span("dub", "job", "dub", 0.0, end_s + TAIL_S, span_id="job", parent_id=""),
        span("start", "load", "replica 0", 0.0, READY_S, track=pool, trace_id="", parent_id=""),
        span("write", "step", "write", end_s, end_s + TAIL_S, span_id="write"),
    ]
    for number in range(NUM):
        began_s, item = READY_S + number * CALL_S, f"u{number}"
        done_s = began_s + CALL_S
        spans += [
            span("translate", "step", "translate pt", 0.0, done_s, span_id=f"s{number}", item=item),
            span(
                *(pool, "request", "waiting", 0.0, done_s),
                track=pool,
                span_id=f"r{number}",
                parent_id=f"s{number}",
                attributes={
                    **{"request": "TranslateRequest", "cost": 1.0, "order": float(number), "priority": 0},
                    **{"job": "talk.mp4#0", "replica": 0},
                    **{"sent_after_s": began_s, "began_after_s": began_s, "ended_after_s": done_s},
                },
            ),
            span(
                *("batch of 1", "batch", "replica 0", began_s, done_s),
                track=pool,
                trace_id="",
                parent_id="",
                attributes={"num_items": 1, "cost": 1.0, "requests": [f"r{number}"]},
            ),
        ]
    pools = {pool: PoolSetting(setting="translation.pool", config=CONFIG)}
    return Trace(spans=tuple(spans), pools=pools, num_dropped=num_dropped)


def test_the_replay_takes_as_long_as_the_dub_and_one_replica_more_halves_its_calls() -> None:
    found = analyse_trace(trace_of())
    assert found.wall_s == READY_S + NUM * CALL_S + TAIL_S
    assert found.replayed_s == pytest.approx(found.wall_s, abs=0.01)
    [more] = found.what_if
    assert (more.setting, more.replicas) == ("translation.pool.replicas", 2)
    assert more.wall_s == pytest.approx(READY_S + NUM / 2 * CALL_S + TAIL_S, abs=0.01)


def test_the_time_of_a_replica_is_told_by_cause() -> None:
    found = analyse_trace(trace_of()).bound
    assert (found.pool, found.bound_s) == ("translation/x", NUM * CALL_S)
    assert (found.starting_s, found.starved_s, found.handover_s, found.tail_s) == pytest.approx((READY_S, 0, 0, TAIL_S))
    assert found.wait_s == pytest.approx(READY_S + (NUM - 1) / 2 * CALL_S)


def test_a_trace_with_missing_events_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"raise trace\.max_events"):
        analyse_trace(trace_of(num_dropped=1))


def test_a_trace_without_batches_is_refused() -> None:
    spans = tuple(span for span in trace_of().spans if span.kind not in ("batch", "request"))
    with pytest.raises(ConfigError, match="found none"):
        analyse_trace(Trace(spans=spans, pools={}))


def test_a_lane_is_full_while_its_spans_run() -> None:
    loads = {lane: load for _, lane, load in timeline(trace_of(), width=11)}
    assert loads["replica 0"] == "█████████  "
    assert loads["write"] == "         ██"


def test_the_command_shows_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(document(trace_of(), 0.0), separators=(",", ":")))
    shown = CliRunner().invoke(app, ["analyze", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "translation/x bounds the dub: 8.0 s in engines" in shown.output
    assert "--set translation.pool.replicas=2" in shown.output
    told = json.loads(CliRunner().invoke(app, ["analyze", str(path), "--json"]).output)
    assert told["bound_s"] == NUM * CALL_S
