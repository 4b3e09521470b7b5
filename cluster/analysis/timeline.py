"""A trace as lines of text: how busy each lane was, from its start to its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from cluster.tracing.chrome import Trace
from cluster.tracing.spans import TraceSpan

LEVELS = " ▁▂▃▄▅▆▇█"
WIDTH = 60
TIMELESS = ("group",)
"""Steps that take no time of their own."""


def timeline(trace: Trace, width: int = WIDTH) -> Iterator[tuple[str, str, str]]:
    """Track, lane, and its load over time: a full block for one or more spans all along."""
    spans = [span for span in trace.spans if span.kind in ("step", "load", "batch") and span.name not in TIMELESS]
    begin_s = min((span.begin_s for span in spans), default=0.0)
    step_s = (max((span.end_s for span in spans), default=0.0) - begin_s) / width or 1.0
    lanes: dict[tuple[str, str], list[TraceSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.begin_s):
        lanes[span.track, span.lane].append(span)
    for (track, lane), own in lanes.items():
        yield track, lane, "".join(_level(own, begin_s + at * step_s, step_s) for at in range(width))


def _level(spans: list[TraceSpan], begin_s: float, step_s: float) -> str:
    end_s = begin_s + step_s
    covered_s = sum(max(0.0, min(span.end_s, end_s) - max(span.begin_s, begin_s)) for span in spans)
    share = min(1.0, covered_s / step_s)
    return LEVELS[max(int(share > 0), round(share * (len(LEVELS) - 1)))]
